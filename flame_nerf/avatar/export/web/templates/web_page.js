// The page: sliders, the recorded performance, the camera that goes around the head.

const NEAREST = 0.35, FARTHEST = 3, STEEPEST = 1.4; // of the first distance; radians up or down
const WANTED_MS = 40, SLOW_MS = 120, SMALLEST = 0.15; // a picture's time while something moves, and how coarse it may get for that
const PLAIN = 1.125; // pixels of the picture for one of the page that a slow machine draws while something moves: fewer show steps at outlines
const FINEST = 2; // pixels of the picture for one of the page, along a side: outlines come out smooth
const MOST_PIXELS = 4e6; // of a picture that is finer than the screen
const byId = (id) => document.getElementById(id);

class Page {
  constructor(avatar) {
    this.avatar = avatar;
    this.head = new Head(avatar.rig);
    this.painter = new Painter(byId("view"), this.head, avatar.look);
    const take = avatar.performance;
    this.take = { ...take, expression: readArray(take.expression), joints: readArray(take.joints), head: readArray(take.head) };
    this.values = new Float32Array(this.head.names.length);
    this.joints = Float32Array.from(avatar.rest);
    this.sliders = [];
    this.frame = 0; this.playing = false; this.clock = 0;
    this.scale = PLAIN / FINEST; this.stale = true; this.settled = true; this.drawnAt = 0;
    this.straight();
  }

  async start() {
    await this.painter.load();
    this.addSliders();
    this.listen();
    this.showFrame(0);
    this.neutral();
    byId("word").remove();
    const loop = (now) => { this.tick(now); requestAnimationFrame(loop); };
    requestAnimationFrame(loop);
  }

  // ---- the face

  neutral() { this.play(false); this.values.fill(0); this.joints.set(this.avatar.rest); this.moved = null; this.showSliders(); this.stale = true; }

  showFrame(frame) {
    const { take, head } = this, E = head.expressions.length, J = 3 * head.joints.length;
    this.frame = frame; this.values.fill(0);
    for (let e = 0; e < E; e++) this.values[e] = take.expression[frame * E + e] * take.expressionScale[e];
    for (let j = 0; j < J; j++) this.joints[j] = take.joints[frame * J + j] * take.jointScale[j];
    this.moved = frame;
    byId("frame").value = frame;
    byId("time").textContent = `${(frame / take.fps).toFixed(1)} / ${((take.count - 1) / take.fps).toFixed(1)} s`;
    this.stale = true;
  }

  set(name, value) {
    const row = this.head.names.indexOf(name);
    if (row < 0) throw new Error(`no expression ${name}`);
    this.play(false);
    this.values[row] = value; this.stale = true;
  }

  angle(name) {
    const { head, avatar } = this, at = (j) => 3 * head.joints.indexOf(j);
    if (name === "jaw angle") return this.joints[at("jaw")];
    const eyes = ["left_eye", "right_eye"].filter((j) => head.joints.includes(j)), axis = name === "gaze left" ? 1 : 0;
    const mean = eyes.reduce((sum, j) => sum + this.joints[at(j) + axis] - avatar.rest[at(j) + axis], 0) / eyes.length;
    return axis === 1 ? mean : -mean;
  }

  setAngle(name, radians) {
    const { head, avatar } = this, at = (j) => 3 * head.joints.indexOf(j);
    this.play(false);
    if (name === "jaw angle") this.joints[at("jaw")] = radians;
    else for (const eye of ["left_eye", "right_eye"]) if (head.joints.includes(eye)) {
      const axis = name === "gaze left" ? 1 : 0;
      this.joints[at(eye) + axis] = avatar.rest[at(eye) + axis] + (axis === 1 ? radians : -radians);
    }
    this.stale = true;
  }

  play(on) {
    this.playing = on; this.clock = 0;
    byId("play").textContent = on ? "Pause" : "Play";
    if (!on) this.showSliders();
  }

  // ---- the controls

  addSliders() {
    const box = byId("sliders");
    this.avatar.groups.forEach((group, index) => {
      const part = document.createElement("details");
      part.open = index < 3 && innerWidth > 720;
      part.append(Object.assign(document.createElement("summary"), { textContent: group.label }));
      for (const entry of group.sliders) {
        const row = document.createElement("label"), input = document.createElement("input"), value = document.createElement("output");
        row.className = "slider"; row.title = entry.name;
        Object.assign(input, { type: "range", min: entry.range[0], max: entry.range[1], step: (entry.range[1] - entry.range[0]) / 100, value: 0 });
        input.dataset.name = entry.name;
        input.addEventListener("input", () => {
          if (entry.angle) this.setAngle(entry.name, input.value * Math.PI / 180); else this.set(entry.name, +input.value);
          this.showSliders();
        });
        row.append(Object.assign(document.createElement("span"), { textContent: entry.label }), input, value);
        part.append(row);
        this.sliders.push({ entry, input, value, row: this.head.names.indexOf(entry.name) });
      }
      box.append(part);
    });
  }

  showSliders() {
    for (const { entry, input, value, row } of this.sliders) {
      const now = entry.angle ? this.angle(entry.name) * 180 / Math.PI : this.values[row];
      if (Math.abs(+input.value - now) > 1e-6) input.value = now;
      value.textContent = entry.angle ? `${now.toFixed(0)}°` : now.toFixed(2);
    }
  }

  listen() {
    const { take } = this, frame = byId("frame");
    frame.max = take.count - 1;
    if (take.count < 2) for (const id of ["play", "frame", "speed"]) byId(id).disabled = true;
    frame.addEventListener("input", () => { this.play(false); this.showFrame(+frame.value); this.showSliders(); });
    byId("play").addEventListener("click", () => { if (!this.playing) this.showFrame(this.moved ?? 0); this.play(!this.playing); });
    byId("moves").addEventListener("change", () => { this.stale = true; });
    byId("neutral").addEventListener("click", () => this.neutral());
    byId("straight").addEventListener("click", () => this.straight());
    for (const button of document.querySelectorAll(".swatch")) button.addEventListener("click", () => {
      this.painter.background = button.dataset.colour.split(" ").map(Number);
      for (const other of document.querySelectorAll(".swatch")) other.setAttribute("aria-pressed", other === button);
      this.stale = true;
    });
    this.listenToView();
    addEventListener("resize", () => { this.stale = true; });
    addEventListener("keydown", (event) => {
      if (event.code === "Space" && event.target === document.body) { event.preventDefault(); byId("play").click(); }
    });
  }

  listenToView() {
    const view = byId("view"), fingers = new Map();
    const spread = () => { const [a, b] = [...fingers.values()]; return Math.hypot(a.x - b.x, a.y - b.y); };
    view.addEventListener("pointerdown", (event) => {
      view.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      byId("hint").style.opacity = 0;
    });
    view.addEventListener("pointermove", (event) => {
      const finger = fingers.get(event.pointerId);
      if (!finger) return;
      const before = fingers.size === 2 ? spread() : 0, dx = event.clientX - finger.x, dy = event.clientY - finger.y;
      finger.x = event.clientX; finger.y = event.clientY;
      if (fingers.size === 1) this.orbit(-dx * 0.008, dy * 0.008);
      else if (fingers.size === 2) this.zoom(before / Math.max(1, spread()));
    });
    for (const end of ["pointerup", "pointercancel"]) view.addEventListener(end, (event) => fingers.delete(event.pointerId));
    view.addEventListener("wheel", (event) => { event.preventDefault(); this.zoom(Math.exp(event.deltaY * 0.001)); }, { passive: false });
    view.addEventListener("dblclick", () => this.straight());
    // A phone takes the graphics away from pages in the background.
    view.addEventListener("webglcontextlost", (event) => event.preventDefault());
    view.addEventListener("webglcontextrestored", () => location.reload());
  }

  // ---- the camera

  straight() { this.yaw = 0; this.pitch = 0; this.distance = 1; this.stale = true; }

  orbit(yaw, pitch) {
    this.yaw += yaw; this.pitch = Math.max(-STEEPEST, Math.min(STEEPEST, this.pitch + pitch));
    this.stale = true;
  }

  zoom(factor) { this.distance = Math.max(NEAREST, Math.min(FARTHEST, this.distance * factor)); this.stale = true; }

  // The first view, turned about the head; where the head moves, the camera does so the other way.
  camera() {
    const { c2w, centre } = this.avatar.camera;
    const turn = M3.times(M3.turn(0, this.yaw, 0), M3.turn(-this.pitch, 0, 0));
    const rotation = M3.times(turn, [c2w[0], c2w[1], c2w[2], c2w[4], c2w[5], c2w[6], c2w[8], c2w[9], c2w[10]]);
    const place = M3.apply(turn, [3, 7, 11].map((i, a) => (c2w[i] - centre[a]) * this.distance)).map((x, a) => x + centre[a]);
    if (this.moved === null || !byId("moves").checked) return Page.matrix(rotation, place);
    const m = this.take.head.subarray(12 * this.moved, 12 * this.moved + 12);
    const back = M3.transposed([m[0], m[1], m[2], m[4], m[5], m[6], m[8], m[9], m[10]]);
    return Page.matrix(M3.times(back, rotation), M3.apply(back, place.map((x, a) => x - m[4 * a + 3])));
  }

  static matrix(r, t) { return [r[0], r[1], r[2], t[0], r[3], r[4], r[5], t[1], r[6], r[7], r[8], t[2]]; }

  // ---- pictures

  tick(now) {
    if (this.playing) {
      const step = 1000 / (this.take.fps * +byId("speed").value);
      if (!this.clock) this.clock = now;
      const frames = Math.floor((now - this.clock) / step);
      if (frames > 0) {
        this.clock += frames * step;
        this.showFrame((this.frame + frames) % this.take.count);
        if (now - this.slidersAt > 150 || !this.slidersAt) { this.showSliders(); this.slidersAt = now; }
      }
    }
    const view = byId("view"), size = `${view.clientWidth}x${view.clientHeight}`;
    if (size !== this.size) { this.size = size; this.stale = true; }
    const resting = !this.stale && !this.settled && now - this.drawnAt > 250;
    if (!this.stale && !resting) return;
    // Coarse while something moves on a slow machine, as fine as it gets once it rests.
    const finest = Math.min(FINEST, Math.max(devicePixelRatio || 1, Math.sqrt(MOST_PIXELS / Math.max(1, view.clientWidth * view.clientHeight))));
    const moving = FINEST * this.scale, ratio = resting ? Math.max(moving, finest) : moving;
    const width = Math.max(1, Math.round(view.clientWidth * ratio)), height = Math.max(1, Math.round(view.clientHeight * ratio));
    const began = performance.now();
    this.picture(this.camera(), width, height);
    const took = Math.max(performance.now() - began, Math.min(now - this.drawnAt, 400));
    // Finer than PLAIN where pictures still come in WANTED_MS, coarser only where they do not come in SLOW_MS.
    const fitting = (wanted) => this.scale * Math.sqrt(wanted / took) ** 0.3;
    if (!resting && now - this.drawnAt < 400) this.scale = Math.max(SMALLEST, Math.min(1, Math.max(fitting(WANTED_MS), Math.min(PLAIN / FINEST, fitting(SLOW_MS)))));
    this.settled = resting || moving >= finest;
    this.stale = false; this.drawnAt = now;
  }

  // Draws the face as it is set. The shorter side has the field of view; `lens` gives fx, fy, cx, cy in pixels instead.
  picture(c2w, width, height, lens) {
    const focal = this.avatar.camera.focal * Math.min(width, height);
    const shown = this.head.pose(this.values, this.joints);
    this.painter.draw(shown, { c2w, width, height, ...(lens || { fx: focal, fy: focal, cx: width / 2, cy: height / 2 }) });
  }

  // For programs: a PNG (data URL) of a face from a camera in the head frame.
  shot({ expression, joints, c2w, width, height, lens }) {
    this.play(false);
    this.values.fill(0);
    for (const [name, value] of Object.entries(expression)) this.values[this.head.names.indexOf(name)] = value;
    this.joints.set(joints || this.avatar.rest);
    this.picture(c2w || this.camera(), width, height, lens);
    return byId("view").toDataURL("image/png");
  }

  // For programs: pictures a second of the performance seen from a camera that goes around.
  rate(count, size) {
    const { gl } = this.painter, pixel = new Uint8Array(4), began = performance.now();
    for (let i = 0; i < count; i++) {
      this.showFrame((3 * i) % this.take.count); this.yaw = 0.3 * Math.sin(0.2 * i);
      this.picture(this.camera(), size, size);
      gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
    }
    return 1000 * count / (performance.now() - began);
  }
}

window.addEventListener("error", (event) => { const word = byId("word"); if (word) word.textContent = event.message; });
(async () => {
  try {
    const page = new Page(JSON.parse(byId("avatar").textContent));
    await page.start();
    window.flameNerf = page;
  } catch (error) {
    byId("word").textContent = `This page cannot be shown: ${error.message}`;
  }
})();
