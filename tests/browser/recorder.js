// Runs before everything else in a page: after each frame, notes what is then on the
// screen of every <job-progress>, so that a test can tell what a person saw in between.
(() => {
  const seen = (globalThis.__seen = []);
  const { port1, port2 } = new MessageChannel();
  let frames = 0;
  let waiting = [];

  // Resolves when so many more frames have been painted.
  globalThis.__painted = (more) =>
    new Promise((done) => waiting.push({ at: frames + more, done }));

  port1.onmessage = () => {
    for (const element of document.querySelectorAll('job-progress')) {
      const root = element.shadowRoot;
      const track = root?.querySelector('[role=progressbar]');
      const bar = track?.firstElementChild;
      if (!bar) continue;
      const { width } = track.getBoundingClientRect();
      seen.push({
        job: element.getAttribute('job'),
        filled: Math.round((1000 * bar.getBoundingClientRect().width) / width) / 10,
        visible: Number(getComputedStyle(track).opacity) > 0 && width > 0,
        figure: root.querySelector('.figure').textContent,
        attempt: root.querySelector('.attempt').textContent,
        time: root.querySelector('.time').textContent,
      });
    }
    frames += 1;
    for (const { at, done } of waiting) if (at <= frames) done();
    waiting = waiting.filter(({ at }) => at > frames);
  };
  requestAnimationFrame(function frame() {
    port2.postMessage(null); // after the paint that follows
    requestAnimationFrame(frame);
  });
})();
