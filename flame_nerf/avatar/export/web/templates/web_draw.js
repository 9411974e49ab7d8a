// The head as layers: offset copies of its mesh with textures of colour and opacity, drawn from inside out.

const VERTEX = `#version 300 es
precision highp float;
in vec3 position, normal;
in vec2 uv;
in float offset, changes, rest;
uniform mat4 camera;
uniform vec3 eye;
uniform float layer, layers, drawn, room, edge;
out vec2 at;
out vec3 facing, toEye;
out float changing, shown;
void main() {
  vec3 p = position + normal * offset;
  at = uv; facing = normal; toEye = eye - p; changing = changes;
  // Clothes draw back to the neck seen from where no camera filmed.
  shown = 1. - smoothstep(0., edge, max(offset, 0.) - mix(room, rest, drawn));
  gl_Position = camera * vec4(p, 1.);
  // Each layer has its own slice of the depth range, the outermost the nearest.
  float z = clamp(gl_Position.z / gl_Position.w * .5 + .5, 0., 1.);
  gl_Position.z = ((layers - 1. - layer + z) / layers * 2. - 1.) * gl_Position.w;
}`;

const FRAGMENT = `#version 300 es
precision highp float;
precision mediump sampler2DArray;
in vec2 at;
in vec3 facing, toEye;
in float changing, shown;
uniform sampler2DArray textures, bases;
uniform float layer;
uniform float weights[BASES];
uniform vec4 strength[BASES];
out vec4 colour;
void main() {
  vec4 t = textureLod(textures, vec3(at, layer), 0.);
  if (changing > 0.) {
    for (int i = 0; i < BASES; i++)
      t += weights[i] * strength[i] * (textureLod(bases, vec3(at, layer * float(BASES) + float(i)), 0.) - 128. / 255.);
    t = clamp(t, 0., 1.);
  }
  float c = abs(dot(facing, toEye)) * inversesqrt(dot(facing, facing) * dot(toEye, toEye));
  // The texture has the root of the opacity.
  float opacity = 1. - exp2(log2(1. - min(t.a * t.a, .9995)) / max(c, LEAST_COSINE));
  opacity *= smoothstep(0., FADE, c) * shown;
  colour = vec4(t.rgb * opacity, opacity);
}`;

const BINS = 1024, DEPTH_SPAN = 0.6; // of the counting sort, metres around the head's middle
const AWAY = 0.3 ** 2; // squared cosine of a triangle to the eye from which on it looks away for good
const NEAR = 0.03, FAR = 12;

async function readPicture(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const image = await createImageBitmap(new Blob([bytes], { type: "image/webp" }), { colorSpaceConversion: "none" });
  const canvas = document.createElement("canvas");
  canvas.width = image.width; canvas.height = image.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, image.width, image.height).data;
}

class Painter {
  constructor(canvas, head, look) {
    this.head = head; this.look = look;
    const gl = this.gl = canvas.getContext("webgl2", { alpha: false, antialias: false, powerPreference: "high-performance" });
    if (!gl) throw new Error("This browser has no WebGL 2, which the picture needs.");
    this.layers = look.layers; this.bases = look.bases.length;
    this.background = [1, 1, 1];
    this.source = readArray(look.source); this.corners = readArray(look.corners);
    this.makeProgram();
    this.makeMesh();
  }

  makeProgram() {
    const { gl } = this, program = gl.createProgram();
    const fill = (text) => text.replaceAll("BASES", String(Math.max(1, this.bases))).replaceAll("LEAST_COSINE", LEAST_COSINE.toFixed(4)).replaceAll("FADE", FADE.toFixed(4));
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, fill(FRAGMENT)]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text); gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    this.program = program;
    this.uniform = Object.fromEntries(["camera", "eye", "layer", "layers", "drawn", "room", "edge", "weights", "strength", "textures", "bases"]
      .map((name) => [name, gl.getUniformLocation(program, name)]));
  }

  attribute(name, values, size, type, normalised, usage) {
    const { gl } = this, buffer = gl.createBuffer(), place = gl.getAttribLocation(this.program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, values, usage);
    if (place >= 0) { gl.enableVertexAttribArray(place); gl.vertexAttribPointer(place, size, type, normalised, 0, 0); }
    return buffer;
  }

  makeMesh() {
    const { gl, source, look } = this, stored = readArray(look.offsets), flags = readArray(look.changes), n = source.length;
    this.points = new Float32Array(3 * n); this.facing = new Float32Array(3 * n);
    this.pointBuffer = this.attribute("position", this.points, 3, gl.FLOAT, false, gl.DYNAMIC_DRAW);
    this.facingBuffer = this.attribute("normal", this.facing, 3, gl.FLOAT, false, gl.DYNAMIC_DRAW);
    this.attribute("uv", readArray(look.uv), 2, gl.UNSIGNED_SHORT, true, gl.STATIC_DRAW);
    const offsets = new Float32Array(this.layers * n), changes = new Float32Array(n), V = flags.length;
    for (let k = 0; k < this.layers; k++) for (let i = 0; i < n; i++) offsets[k * n + i] = stored[k * V + source[i]];
    for (let i = 0; i < n; i++) changes[i] = flags[source[i]];
    this.offsetBuffer = this.attribute("offset", offsets, 1, gl.FLOAT, false, gl.STATIC_DRAW);
    this.offsetPlace = gl.getAttribLocation(this.program, "offset");
    this.attribute("changes", changes, 1, gl.FLOAT, false, gl.STATIC_DRAW);
    const rest = look.clothes && readArray(look.clothes.rest);
    this.filmed = look.clothes && readArray(look.clothes.filmed);
    this.attribute("rest", Float32Array.from(source, (v) => (rest ? rest[v] : 1)), 1, gl.FLOAT, false, gl.STATIC_DRAW);
    this.faceCount = this.corners.length / 3;
    this.order = new Uint32Array(this.faceCount); this.key = new Uint16Array(this.faceCount); this.place = new Uint32Array(this.faceCount);
    this.bins = new Uint32Array(BINS + 1);
    this.indices = new (n < 65536 ? Uint16Array : Uint32Array)(this.corners.length);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, this.indices.byteLength, gl.DYNAMIC_DRAW);
    gl.enable(gl.CULL_FACE); gl.enable(gl.DEPTH_TEST); gl.depthFunc(gl.LEQUAL);
    gl.enable(gl.BLEND); gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  // Colour and opacity are two opaque pictures each: what a canvas does to transparent pixels loses colour.
  async load() {
    const { gl, look } = this;
    this.texture(0, look.size, await this.combined(look.colour, look.opacity, look.size));
    const size = this.bases ? look.baseSize : 1;
    const pictures = this.bases ? await this.combined(look.baseColour, look.baseOpacity, size) : [new Uint8Array(4)];
    this.texture(1, size, pictures);
    gl.uniform1i(this.uniform.textures, 0); gl.uniform1i(this.uniform.bases, 1);
    gl.uniform4fv(this.uniform.strength, this.bases ? look.bases.flatMap((b) => b.strength) : [0, 0, 0, 0]);
  }

  async combined(colours, opacities, size) {
    const out = [];
    for (let k = 0; k < colours.length; k++) {
      const colour = await readPicture(colours[k]), opacity = await readPicture(opacities[k]);
      for (let i = 0; i < colour.length; i += 4) colour[i + 3] = opacity[i];
      out.push(new Uint8Array(colour.buffer));
    }
    return out;
  }

  texture(unit, size, slices) {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, gl.createTexture());
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, gl.RGBA8, size, size, slices.length);
    slices.forEach((s, k) => gl.texSubImage3D(gl.TEXTURE_2D_ARRAY, 0, 0, 0, k, size, size, 1, gl.RGBA, gl.UNSIGNED_BYTE, s));
    for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D_ARRAY, side, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D_ARRAY, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D_ARRAY, gl.TEXTURE_MAG_FILTER, gl.LINEAR);
  }

  // How far each basis is on: a linear map of what the face does, held within what training showed.
  weights(shown) {
    return this.look.bases.map((b) => {
      let w = b.constant;
      for (let e = 0; e < shown.expression.length; e++) w += b.expression[e] * shown.expression[e];
      for (let j = 0; j < shown.joints.length; j++) w += b.joints[j] * shown.joints[j];
      return Math.max(b.range[0], Math.min(b.range[1], w));
    });
  }

  // How far clothes draw back for an eye: by its angle, at the head's middle, beyond the nearest of the cameras that filmed.
  drawn(eye) {
    const clothes = this.look.clothes;
    if (!clothes) return 0;
    const away = clothes.middle.map((m, a) => eye[a] - m), distance = Math.hypot(...away), filmed = this.filmed;
    let chord = 2;
    for (let k = 0; k < filmed.length; k += 3)
      chord = Math.min(chord, Math.hypot(...away.map((v, a) => v / distance - filmed[k + a])));
    const angle = 2 * Math.asin(chord / 2) - clothes.slack;
    const share = Math.max(0, Math.min(1, angle / clothes.turn));
    return share * share * (3 - 2 * share);
  }

  // view: { c2w: 12 numbers (OpenGL axes, rows), fx, fy, cx, cy, width, height } in pixels.
  draw(shown, view) {
    const { gl, head, source } = this, canvas = gl.canvas;
    if (canvas.width !== view.width || canvas.height !== view.height) { canvas.width = view.width; canvas.height = view.height; }
    gl.viewport(0, 0, view.width, view.height);
    for (let i = 0; i < source.length; i++) {
      const v = 3 * source[i], at = 3 * i;
      for (let a = 0; a < 3; a++) { this.points[at + a] = head.vertices[v + a]; this.facing[at + a] = head.normals[v + a]; }
    }
    gl.bindBuffer(gl.ARRAY_BUFFER, this.pointBuffer); gl.bufferSubData(gl.ARRAY_BUFFER, 0, this.points);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.facingBuffer); gl.bufferSubData(gl.ARRAY_BUFFER, 0, this.facing);
    const count = this.sort(view.c2w);
    gl.bufferSubData(gl.ELEMENT_ARRAY_BUFFER, 0, this.indices.subarray(0, count));
    gl.uniformMatrix4fv(this.uniform.camera, false, Painter.matrix(view));
    gl.uniform3f(this.uniform.eye, view.c2w[3], view.c2w[7], view.c2w[11]);
    gl.uniform1f(this.uniform.layers, this.layers);
    gl.uniform1f(this.uniform.drawn, this.drawn([view.c2w[3], view.c2w[7], view.c2w[11]]));
    for (const name of ["room", "edge"]) gl.uniform1f(this.uniform[name], this.look.clothes ? this.look.clothes[name] : 1);
    gl.uniform1fv(this.uniform.weights, this.bases ? this.weights(shown) : [0]);
    gl.clearColor(...this.background, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const type = this.indices instanceof Uint16Array ? gl.UNSIGNED_SHORT : gl.UNSIGNED_INT;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.offsetBuffer);
    for (let k = 0; k < this.layers; k++) {
      gl.vertexAttribPointer(this.offsetPlace, 1, gl.FLOAT, false, 0, 4 * k * source.length);
      gl.uniform1f(this.uniform.layer, k);
      gl.drawElements(gl.TRIANGLES, count, type, 0);
    }
  }

  // Triangles from front to back, so that what is hidden within a layer is not blended; returns how many indices.
  sort(c) {
    const { vertices, faces } = this.head, { order, key, place, bins, corners, indices, faceCount } = this;
    const [ax, ay, az] = [c[2], c[6], c[10]], middle = this.look.centre;
    const start = (c[3] - middle[0]) * ax + (c[7] - middle[1]) * ay + (c[11] - middle[2]) * az - DEPTH_SPAN / 2;
    bins.fill(0);
    let kept = 0;
    for (let f = 0; f < faceCount; f++) {
      const i = 3 * faces[3 * f], j = 3 * faces[3 * f + 1], k = 3 * faces[3 * f + 2];
      const x = vertices[i], y = vertices[i + 1], z = vertices[i + 2], tx = c[3] - x, ty = c[7] - y, tz = c[11] - z;
      const ux = vertices[j] - x, uy = vertices[j + 1] - y, uz = vertices[j + 2] - z;
      const vx = vertices[k] - x, vy = vertices[k + 1] - y, vz = vertices[k + 2] - z;
      const nx = uy * vz - uz * vy, ny = uz * vx - ux * vz, nz = ux * vy - uy * vx, facing = nx * tx + ny * ty + nz * tz;
      // Layers bend a little against the mesh: only what clearly looks away is left out.
      if (facing < 0 && facing * facing > AWAY * (nx * nx + ny * ny + nz * nz) * (tx * tx + ty * ty + tz * tz)) continue;
      const depth = (tx - (ux + vx) / 3) * ax + (ty - (uy + vy) / 3) * ay + (tz - (uz + vz) / 3) * az;
      const bin = Math.max(0, Math.min(BINS - 1, ((depth - start) / DEPTH_SPAN) * BINS | 0));
      place[kept] = f; key[kept++] = bin; bins[bin + 1]++;
    }
    for (let b = 0; b < BINS; b++) bins[b + 1] += bins[b];
    for (let n = 0; n < kept; n++) order[bins[key[n]]++] = place[n];
    for (let o = 0, i = 0; o < kept; o++) {
      const f = 3 * order[o];
      indices[i++] = corners[f]; indices[i++] = corners[f + 1]; indices[i++] = corners[f + 2];
    }
    return 3 * kept;
  }

  // World to clip space, column by column, as WebGL wants it.
  static matrix({ c2w: c, fx, fy, cx, cy, width, height }) {
    const rows = [0, 1, 2].map((a) => [c[a], c[4 + a], c[8 + a], -(c[a] * c[3] + c[4 + a] * c[7] + c[8 + a] * c[11])]);
    const [x, y, z] = rows, pz = -(FAR + NEAR) / (FAR - NEAR), pw = (-2 * FAR * NEAR) / (FAR - NEAR);
    const out = [
      x.map((v, i) => (2 * fx / width) * v + (1 - 2 * cx / width) * z[i]),
      y.map((v, i) => (2 * fy / height) * v + (2 * cy / height - 1) * z[i]),
      z.map((v, i) => pz * v + (i === 3 ? pw : 0)),
      z.map((v) => -v),
    ];
    return [0, 1, 2, 3].flatMap((column) => out.map((row) => row[column]));
  }
}
