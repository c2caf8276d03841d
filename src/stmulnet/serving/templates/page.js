// The line in the row of moments follows the video; a click there goes to that moment.
(() => {
  const length = (video) => (Number.isFinite(video.duration) ? video.duration : Number(video.dataset.seconds));
  const follow = (event) => {
    const video = event.target;
    if (!(video instanceof HTMLVideoElement) || !video.closest(".st-player") || !length(video)) return;
    document.querySelectorAll(".st-time").forEach((element) =>
      element.style.setProperty("--st-at", Math.min(1, video.currentTime / length(video))));
  };
  for (const name of ["timeupdate", "seeked"]) document.addEventListener(name, follow, true);
  document.addEventListener("click", (event) => {
    const row = event.target instanceof Element && event.target.closest(".st-time");
    const video = document.querySelector(".st-player video");
    if (!row || !video || !length(video)) return;
    const place = row.querySelector(".st-cells").getBoundingClientRect();
    const share = (event.clientX - place.left) / place.width;
    if (share >= 0 && share <= 1) video.currentTime = share * length(video);
  });
})();
