-- One shard of a site's open visits: those of the people, or of the bots, whose ids fall into it.
--
-- KEYS   seen: visitor -> at; trails: visitor -> pages, the latest last; paths: page -> text;
--        holders: page -> visits that have it in their trail; on: page -> current visitors;
--        meta: what the fields below say; then a set of visitors for each day of the call
-- ARGV   1 what to do; 2 the caller's name, a number that grows with each of its calls, the one of its latest
--        call that was answered and left its number (0 asks nothing), now, the window, the gap, the longest
--        trail, how long `meta` is kept; then what is said at each function
--
-- Lists are words, each with its length before it in 4 bytes. Visitors and pages are 8 bytes; several of them,
-- and a visit's trail, are put together without more. Times are milliseconds. `on` counts visits seen after
-- `meta.edge`. `meta` has the latest number of each caller: where it is less than the caller was answered, this
-- shard was lost or is an older copy, and 'lost' is all that is said. It also has the names of days whose sets
-- are whole, each with the time when that became so.
local seen, trails, paths, holders, on, meta = unpack(KEYS, 1, 6)
local caller, number, answered, now, window, gap, longest_trail, keep_ms = struct.unpack('>c8ddddddd', ARGV[2])
local lasting = math.max(window, gap)
local call = redis.call
local AT_ONCE = 1000

local function words(text)
  local list, place = {}, 1
  while place <= #text do list[#list + 1], place = struct.unpack('>I4c0', text, place) end
  return list
end

local function eights(text)
  local list = {}
  for place = 1, #text, 8 do list[#list + 1] = string.sub(text, place, place + 7) end
  return list
end

local function each(list, work)
  for first = 1, #list, AT_ONCE do work({unpack(list, first, math.min(first + AT_ONCE - 1, #list))}) end
end

-- Gather changes of counters and make them together.
local function changes(key, came, gone)
  local sums = {}
  local function add(page, by) sums[page] = (sums[page] or 0) + by end
  local function settle()
    local changed = next(sums)
    for page, by in pairs(sums) do
      if by ~= 0 then
        local count = call('HINCRBY', key, page, by)
        if count <= 0 then
          call('HDEL', key, page)
          gone(page)
        elseif count == by then
          came(page)
        end
      end
    end
    sums = {}
    return changed
  end
  return add, settle
end

local texts = {}
local add_on, settle_on = changes(on, function() end, function() end)
local add_holder, settle_holders = changes(
  holders,
  function(page) call('HSET', paths, page, texts[page]) end,
  function(page) call('HDEL', paths, page) end
)

local function hold(trail)
  for _, page in ipairs(eights(trail)) do add_holder(page, 1) end
end

local function release(trail)
  for _, page in ipairs(eights(trail)) do add_holder(page, -1) end
end

local met, kept_edge = unpack(call('HMGET', meta, caller, 'edge'))
met, kept_edge = tonumber(met or 0), tonumber(kept_edge or -1)
if met < answered then return {'lost'} end
local edge = kept_edge < 0 and now - window or kept_edge

local function count_pages(from, to, by)
  each(call('ZRANGEBYSCORE', seen, '(' .. from, to), function(visitors)
    for _, trail in ipairs(call('HMGET', trails, unpack(visitors))) do
      add_on(string.sub(trail, -8), by)
    end
  end)
end

local function move_edge(to)
  if to > edge then count_pages(edge, to, -1) elseif to < edge then count_pages(to, edge, 1) end
  edge = to
end

local function forget(visitor, at, trail)
  call('ZREM', seen, visitor)
  call('HDEL', trails, visitor)
  release(trail)
  if at > edge then add_on(string.sub(trail, -8), -1) end
end

local function put(visitor, at, trail)
  call('ZADD', seen, at, visitor)
  call('HSET', trails, visitor, trail)
  hold(trail)
  if at > edge then add_on(string.sub(trail, -8), 1) end
end

local function find(visitor)
  local at = call('ZSCORE', seen, visitor)
  if at then return tonumber(at), call('HGET', trails, visitor) end
end

local function expire()
  move_edge(now - window)
  each(call('ZRANGEBYSCORE', seen, '-inf', now - lasting), function(visitors)
    for _, trail in ipairs(call('HMGET', trails, unpack(visitors))) do release(trail) end
    call('ZREM', seen, unpack(visitors))
    call('HDEL', trails, unpack(visitors))
  end)
end

-- What only counts leaves no number, and keeps nothing for longer.
local function settle()
  settle_on()
  settle_holders()
  if met < number then call('HSET', meta, caller, number, 'edge', edge) else call('HSET', meta, 'edge', edge) end
  call('PEXPIRE', meta, keep_ms)
  for place = 1, 5 do call('PEXPIRE', KEYS[place], lasting + 60000) end
end

local function learn(list)
  list = words(list)
  for place = 1, #list, 2 do texts[list[place]] = list[place + 1] end
end

local function count_at(time)
  return struct.pack('>I4', call('ZCOUNT', seen, '(' .. (time - window), '+inf'))
end

local function count_on(pages)
  local counts = {}
  each(eights(pages), function(part)
    for _, visitors in ipairs(call('HMGET', on, unpack(part))) do
      counts[#counts + 1] = struct.pack('>I4', visitors or 0)
    end
  end)
  return table.concat(counts)
end

-- 3 times to count at; 4 pages to count on. Says the counts, on the site and on the pages.
local function count()
  local counts = {}
  for place = 1, #ARGV[3], 8 do counts[#counts + 1] = count_at(struct.unpack('>d', ARGV[3], place)) end
  if ARGV[4] ~= '' then
    move_edge(now - window)
    if settle_on() then call('HSET', meta, 'edge', edge) end
  end
  return {'done', table.concat(counts), count_on(ARGV[4])}
end

-- 3 times to count at; 4 pages to count on; 5 hits: visitor, page, at, place of its day; 6 for a visitor
-- the at and trail of the same one's visit under another id; 7 of each day its name and how long its set is
-- kept; 8 pages and their texts.
-- Says the counts, on the site and on the pages; of each hit what it began (1 a visit, 2 one of the page,
-- 4 a visitor's day); of each visitor the at and trail that are left and that were; other pages' texts.
local function touch()
  local days = words(ARGV[7])
  for place = 1, #days, 2 do
    if call('HEXISTS', meta, days[place]) == 0 then return {'day', days[place]} end
  end
  learn(ARGV[8])
  local times, hits, given, carried = ARGV[3], ARGV[5], words(ARGV[6]), {}
  for place = 1, #given, 3 do carried[given[place]] = {tonumber(given[place + 1]), given[place + 2]} end
  local flags, counts, before, state, order = {}, {}, {}, {}, {}

  local function hit(visitor, page, at, day)
    if not state[visitor] then
      local last, trail = find(visitor)
      before[visitor] = {last or -1, trail or ''}
      state[visitor] = before[visitor]
      order[#order + 1] = visitor
    end
    local last, trail = unpack(state[visitor])
    if last > edge then add_on(string.sub(trail, -8), -1) end
    at = math.max(at, last)
    local held = trail
    if at - last >= lasting and carried[visitor] then last, trail = unpack(carried[visitor]) end
    local begins = at - last >= gap
    local begins_page = begins
    if begins then
      trail = page
    elseif string.sub(trail, -8) ~= page then
      local from = 1
      while from <= #trail and string.sub(trail, from, from + 7) ~= page do from = from + 8 end
      begins_page = from > #trail
      trail = string.sub(trail, 1, from - 1) .. string.sub(trail, from + 8) .. page
      trail = string.sub(trail, -longest_trail)
    end
    call('ZADD', seen, at, visitor)
    if trail ~= held then
      call('HSET', trails, visitor, trail)
      release(held)
      hold(trail)
    end
    if at > edge then add_on(page, 1) end
    state[visitor] = {at, trail}
    local new = call('SADD', KEYS[6 + day], visitor)
    flags[#flags + 1] = string.char((begins and 1 or 0) + (begins_page and 2 or 0) + 4 * new)
  end

  local from = 1
  for moment = 1, #times, 8 do
    local time = struct.unpack('>d', times, moment)
    while from <= #hits do
      local visitor, page, at, day, after = struct.unpack('>c8c8dB', hits, from)
      if at > time then break end
      hit(visitor, page, at, day)
      from = after
    end
    counts[#counts + 1] = count_at(time)
  end
  local left, unnamed, wanted = {}, {}, {}
  local function name_pages(trail)
    for _, page in ipairs(eights(trail)) do
      if not texts[page] and not wanted[page] then
        wanted[page] = true
        unnamed[#unnamed + 1] = page
        unnamed[#unnamed + 1] = call('HGET', paths, page)
      end
    end
  end
  for _, visitor in ipairs(order) do
    local at, trail = unpack(state[visitor])
    local prior_at, prior = unpack(before[visitor])
    left[#left + 1] = struct.pack('>c8dHdH', visitor, at, #trail, prior_at, #prior)
    left[#left + 1] = trail
    left[#left + 1] = prior
    name_pages(trail)
    if prior ~= trail then name_pages(prior) end
  end
  expire()
  settle()
  for day = 1, #days, 2 do call('PEXPIRE', KEYS[6 + (day + 1) / 2], days[day + 1]) end
  return {
    'done', table.concat(counts), count_on(ARGV[4]), table.concat(flags), table.concat(left), unnamed,
  }
end

-- Let go of what is over.
local function tidy()
  expire()
  settle()
  return {'done'}
end

-- 3 visitors. Says of each that is on a visit: visitor, at, trail, and the texts of the trail's pages.
local function look()
  local known = {}
  for _, visitor in ipairs(eights(ARGV[3])) do
    local at, trail = find(visitor)
    if at and now - at < lasting then
      local entry = {visitor, string.format('%.0f', at), trail}
      for _, page in ipairs(eights(trail)) do entry[#entry + 1] = call('HGET', paths, page) end
      known[#known + 1] = entry
    end
  end
  return {'done', known}
end

-- 3 visits as they are known elsewhere: visitor, at, trail; an empty trail says that the visit has gone on
-- under another id since then. The newer wins. 4 pages and their texts. The days' visitors are to be loaded
-- again, too.
local function fill()
  for _, field in ipairs(call('HKEYS', meta)) do
    if string.find(field, '^%d%d%d%d%-%d%d%-%d%d$') then call('HDEL', meta, field) end
  end
  move_edge(now - window)
  for _, visitor in ipairs(call('ZRANGEBYSCORE', seen, '(' .. now, '+inf')) do
    call('ZADD', seen, now, visitor) -- what seems to lie in the future was seen just now
  end
  learn(ARGV[4])
  local visits = words(ARGV[3])
  for place = 1, #visits, 3 do
    local visitor, at, trail = visits[place], tonumber(visits[place + 1]), visits[place + 2]
    local last, known = find(visitor)
    if not last or last < at or (trail == '' and last == at) then
      if last then forget(visitor, last, known) end
      if trail ~= '' then put(visitor, at, trail) end
    end
  end
  expire()
  settle()
  return {'done'}
end

-- 3 visits that have gone on under another id, visitor and at: not those that were touched since.
local function drop()
  local visits = words(ARGV[3])
  for place = 1, #visits, 2 do
    local at, trail = find(visits[place])
    if at == tonumber(visits[place + 1]) then forget(visits[place], at, trail) end
  end
  settle()
  return {'done'}
end

-- 3 what a batch did: visitor, the at and trail that it left, the at and trail before it (-1 and none for
-- no visit). Taken back where nobody has touched the visitor since. 4 pages and their texts. 5 for each
-- day's set the visitors that were new.
local function undo()
  learn(ARGV[4])
  local visits = words(ARGV[3])
  for place = 1, #visits, 5 do
    local visitor, left_at, left, prior_at, prior = unpack(visits, place, place + 4)
    local at, trail = find(visitor)
    if (at or -1) == tonumber(left_at) and (trail or '') == left then
      if at then forget(visitor, at, trail) end
      prior_at = tonumber(prior_at)
      if prior_at >= 0 then put(visitor, prior_at, prior) end
    end
  end
  settle()
  for place, visitors in ipairs(words(ARGV[5])) do
    each(eights(visitors), function(part) call('SREM', KEYS[6 + place], unpack(part)) end)
  end
  return {'done'}
end

-- 3 the day; 4 how long its set is kept; 5 its visitors. 6 what `meta` has from before then is let go.
local function load_day()
  each(eights(ARGV[5]), function(part) call('SADD', KEYS[7], unpack(part)) end)
  call('PEXPIRE', KEYS[7], ARGV[4])
  call('HSET', meta, ARGV[3], now)
  local fields = call('HGETALL', meta)
  for place = 1, #fields, 2 do
    if fields[place] ~= 'edge' and tonumber(fields[place + 1]) < tonumber(ARGV[6]) then
      call('HDEL', meta, fields[place])
    end
  end
  return {'done'}
end

return ({count = count, tidy = tidy, touch = touch, look = look, fill = fill, drop = drop, undo = undo, load_day = load_day})[ARGV[1]]()
