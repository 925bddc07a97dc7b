// A reload would put the browser's own error page here while the service is away: so the numbers that
// stand here stay, until there are new ones.
setInterval(async () => {
  if (document.hidden) return;
  try {
    const answer = await fetch(location.href, { cache: "no-cache" });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.querySelector(".box").replaceWith(page.querySelector(".box"));
  } catch {}
}, $milliseconds);
