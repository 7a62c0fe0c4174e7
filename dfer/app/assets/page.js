// Lets the timeline follow the video, and the video a click into the timeline or the table.
(() => {
  const parsed = new WeakMap();
  const dataOf = (section) => {
    if (!parsed.has(section)) parsed.set(section, JSON.parse(section.dataset.follow));
    return parsed.get(section);
  };
  const rowAt = (pieces, at) => {
    for (const piece of pieces) {
      if (at < piece.edges[0] || at >= piece.edges[piece.edges.length - 1]) continue;
      let row = 0;
      while (at >= piece.edges[row + 1]) row += 1;
      return [piece, row];
    }
    return null;
  };
  const show = (video) => {
    const section = video.closest(".dfer-result");
    if (!section) return;
    const data = dataOf(section);
    const at = Math.min(Math.max(video.currentTime, data.begin), data.end - 1e-6);
    const place = `${(100 * (at - data.begin)) / (data.end - data.begin)}%`;
    for (const person of section.querySelectorAll(".dfer-person")) {
      person.querySelector(".dfer-cursor").style.left = place;
      const found = rowAt(data.people[person.dataset.person], at);
      person.classList.toggle("dfer-away", !found);
      person.querySelector(".dfer-now").textContent = found ? found[0].words[found[1]] : "not seen here";
      person.querySelectorAll("output").forEach((value, k) => {
        value.textContent = found ? found[0].probabilities[found[1]][k].toFixed(2) : "–";
      });
    }
  };
  const follow = (video) => {
    show(video);
    if (!video.paused && !video.ended && video.isConnected) requestAnimationFrame(() => follow(video));
  };
  for (const event of ["timeupdate", "seeking", "loadedmetadata", "play"])
    // events of a video do not bubble, but they can be caught on their way down
    document.addEventListener(event, ({ target }) => target.matches?.(".dfer-result video") && (event === "play" ? follow : show)(target), true);
  document.addEventListener("click", (event) => {
    const section = event.target.closest?.(".dfer-result");
    const video = section?.querySelector("video");
    const track = event.target.closest?.(".dfer-track");
    const row = event.target.closest?.("[data-start]");
    if (!video || !(track || row)) return;
    const data = dataOf(section);
    const box = track?.getBoundingClientRect();
    video.currentTime = track
      ? data.begin + ((event.clientX - box.left) / box.width) * (data.end - data.begin)
      : Number(row.dataset.start);
  });
})();
