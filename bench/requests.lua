-- wrk's part: puts requests together from heads, addresses and tails, and tells the result as JSON.
-- See requests.py for what they are.

local band, rshift, floor, random = bit.band, bit.rshift, math.floor, math.random
local heads, tails, ends, visitors, visitor

local function texts(file, count)
  local all = {}
  for n = 1, count do
    local length = file:read("*n")
    file:read(1)
    all[n] = file:read(length)
  end
  return all
end

function init(args)
  local file = io.open(args[1], "rb")
  local head_count, tail_count, seed
  head_count, tail_count, visitors, visitor, seed = file:read("*n", "*n", "*n", "*n", "*n")
  file:read(1)
  heads, tails = texts(file, head_count), texts(file, tail_count)
  file:close()
  ends = {}
  for n, tail in ipairs(tails) do
    local first, last = tail:find("%z+")
    if first then
      tails[n], ends[n] = tail:sub(1, first - 1), tail:sub(last + 1)
    end
  end
  math.randomseed(seed)
end

function request()
  local who
  if visitors > 0 then
    who = random(visitors)
  else
    visitor = visitor + 1
    who = visitor
  end
  local number = who * 2654435761 % 4294967296
  local low, high = number % 65536, floor(number / 65536)
  local address = rshift(high, 8) .. "." .. band(high, 255) .. "." .. rshift(low, 8) .. "." .. band(low, 255)
  local n = random(#tails)
  local start = heads[who % #heads + 1] .. address .. tails[n]
  if not ends[n] then
    return start
  end
  return start .. random(100000, 999999) .. random(100000, 999999) .. ends[n]
end

function done(summary, latency)
  io.write(string.format(
    '{"answers": %d, "seconds": %.6f, "errors": %d, "bad_answers": %d, "p50_ms": %.4f, "p99_ms": %.4f}\n',
    summary.requests, summary.duration / 1e6,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    summary.errors.status, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
