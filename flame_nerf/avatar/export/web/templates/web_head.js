// The head model: from coefficients and turns of joints to a mesh in the head frame (metres; x to the person's left, y
// up, z out of the face). The same arithmetic as LiveHead and HeadModel in Python, which the tests compare with.

function readArray(stored) {
  const text = atob(stored.base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const kind = { Float32Array, Int16Array, Uint16Array, Uint8Array, Uint32Array }[stored.type];
  return new kind(bytes.buffer);
}

const M3 = {
  identity: () => [1, 0, 0, 0, 1, 0, 0, 0, 1],
  times(a, b) {
    const out = new Array(9);
    for (let r = 0; r < 3; r++) for (let c = 0; c < 3; c++)
      out[3 * r + c] = a[3 * r] * b[c] + a[3 * r + 1] * b[3 + c] + a[3 * r + 2] * b[6 + c];
    return out;
  },
  apply: (a, v) => [0, 3, 6].map((r) => a[r] * v[0] + a[r + 1] * v[1] + a[r + 2] * v[2]),
  transposed: (a) => [a[0], a[3], a[6], a[1], a[4], a[7], a[2], a[5], a[8]],
  // Rotation by an axis-angle vector, radians.
  turn(x, y, z) {
    const angle = Math.hypot(x, y, z);
    if (angle < 1e-9) return M3.identity();
    x /= angle; y /= angle; z /= angle;
    const c = Math.cos(angle), s = Math.sin(angle), d = 1 - c;
    return [c + x * x * d, x * y * d - z * s, x * z * d + y * s, y * x * d + z * s, c + y * y * d, y * z * d - x * s,
            z * x * d - y * s, z * y * d + x * s, c + z * z * d];
  },
};

function readDirections(stored) {
  return { start: stored.start, scale: stored.scale, row: readArray(stored.row), value: readArray(stored.value) };
}

function addDirection(out, directions, column, weight) {
  if (!weight) return;
  const { start, row, value } = directions, w = weight * directions.scale[column];
  for (let i = start[column], end = start[column + 1]; i < end; i++) {
    const v = 3 * row[i];
    out[v] += w * value[3 * i]; out[v + 1] += w * value[3 * i + 1]; out[v + 2] += w * value[3 * i + 2];
  }
}

class Head {
  constructor(rig) {
    this.expressions = rig.expressions; this.joints = rig.joints;
    this.derived = rig.derived; this.turns = rig.turns;
    this.parents = rig.parents; this.headJoint = rig.headJoint;
    this.template = readArray(rig.template); this.faces = readArray(rig.faces);
    this.weights = readArray(rig.weights); this.jointTemplate = readArray(rig.jointTemplate);
    this.directions = readDirections(rig.directions);
    this.jointDirections = rig.jointDirections && readArray(rig.jointDirections);
    this.correctives = rig.correctives && readDirections(rig.correctives);
    this.count = this.template.length / 3;
    // Names that a face is set by: the model's expressions, then those derived from them.
    this.names = [...rig.expressions, ...rig.derived.map((d) => d.name)];
    this.shaped = new Float32Array(this.template.length);
    this.vertices = new Float32Array(this.template.length);
    this.normals = new Float32Array(this.template.length);
    this.spare = new Float32Array(this.template.length);
    this.listNeighbours();
  }

  listNeighbours() {
    const near = Array.from({ length: this.count }, () => new Set()), { faces } = this;
    for (let f = 0; f < faces.length; f += 3) for (let i = 0; i < 3; i++) {
      const a = faces[f + i], b = faces[f + (i + 1) % 3];
      near[a].add(b); near[b].add(a);
    }
    this.nearStart = new Uint32Array(this.count + 1);
    for (let v = 0; v < this.count; v++) this.nearStart[v + 1] = this.nearStart[v] + near[v].size;
    this.near = new Uint32Array(this.nearStart[this.count]);
    for (let v = 0, at = 0; v < this.count; v++) for (const other of near[v]) this.near[at++] = other;
  }

  // Poses the mesh into `vertices` and `normals`; returns coefficients and turns as a track would have stored them.
  pose(values, joints) {
    const E = this.expressions.length, named = Float32Array.from(values.subarray(0, E)), turned = Float32Array.from(joints);
    this.derived.forEach((d, i) => { const w = values[E + i]; if (w) for (let e = 0; e < E; e++) named[e] += w * d.mixture[e]; });
    const shown = Float32Array.from(named);
    for (const t of this.turns) {
      for (let a = 0; a < 3; a++) turned[3 * t.joint + a] += named[t.expression] * t.axis[a];
      shown[t.expression] = 0;
    }
    this.skin(named, turned);
    this.findNormals();
    return { expression: shown, joints: turned };
  }

  skin(expression, joints) {
    const { shaped, vertices, weights, parents, count } = this, J = parents.length, E = expression.length;
    shaped.set(this.template);
    for (let e = 0; e < E; e++) addDirection(shaped, this.directions, e, expression[e]);
    const at = Array.from({ length: J }, (_, j) => [0, 1, 2].map((a) => {
      let x = this.jointTemplate[3 * j + a];
      if (this.jointDirections) for (let e = 0; e < E; e++) x += this.jointDirections[(3 * j + a) * E + e] * expression[e];
      return x;
    }));
    const turns = Array.from({ length: J }, (_, j) => M3.turn(joints[3 * j], joints[3 * j + 1], joints[3 * j + 2]));
    if (this.correctives) {
      for (let j = 1, p = 0; j < J; j++) for (let i = 0; i < 9; i++, p++)
        addDirection(shaped, this.correctives, p, turns[j][i] - (i % 4 === 0 ? 1 : 0));
    }
    // Down the chain from a root that stands still: x_rest -> linear x_rest + offset.
    const linear = [], offset = [];
    for (let j = 0; j < J; j++) {
      const parent = parents[j];
      if (parent < 0) { linear.push(M3.identity()); offset.push([0, 0, 0]); continue; }
      const turned = M3.times(linear[parent], turns[j]);
      const before = M3.apply(linear[parent], at[j]), after = M3.apply(turned, at[j]);
      linear.push(turned); offset.push([0, 1, 2].map((a) => before[a] - after[a] + offset[parent][a]));
    }
    // Relative to the head joint's own motion: the skull stays where it is.
    const back = M3.transposed(linear[this.headJoint]), from = offset[this.headJoint], bones = new Float32Array(12 * J);
    for (let j = 0; j < J; j++) {
      const l = M3.times(back, linear[j]), o = M3.apply(back, [0, 1, 2].map((a) => offset[j][a] - from[a]));
      for (let r = 0; r < 3; r++) { bones.set(l.slice(3 * r, 3 * r + 3), 12 * j + 4 * r); bones[12 * j + 4 * r + 3] = o[r]; }
    }
    for (let v = 0; v < count; v++) {
      const x = shaped[3 * v], y = shaped[3 * v + 1], z = shaped[3 * v + 2];
      let X = 0, Y = 0, Z = 0, sum = 0;
      for (let j = 0; j < J; j++) {
        const w = weights[v * J + j];
        if (!w) continue;
        const m = 12 * j;
        sum += w;
        X += w * (bones[m] * x + bones[m + 1] * y + bones[m + 2] * z + bones[m + 3]);
        Y += w * (bones[m + 4] * x + bones[m + 5] * y + bones[m + 6] * z + bones[m + 7]);
        Z += w * (bones[m + 8] * x + bones[m + 9] * y + bones[m + 10] * z + bones[m + 11]);
      }
      vertices[3 * v] = X / sum; vertices[3 * v + 1] = Y / sum; vertices[3 * v + 2] = Z / sum;
    }
  }

  findNormals() {
    const { vertices: p, normals, spare, faces, nearStart, near, count } = this;
    let from = normals, to = spare;
    from.fill(0);
    for (let f = 0; f < faces.length; f += 3) {
      const a = 3 * faces[f], b = 3 * faces[f + 1], c = 3 * faces[f + 2];
      const ux = p[b] - p[a], uy = p[b + 1] - p[a + 1], uz = p[b + 2] - p[a + 2];
      const vx = p[c] - p[a], vy = p[c + 1] - p[a + 1], vz = p[c + 2] - p[a + 2];
      const x = uy * vz - uz * vy, y = uz * vx - ux * vz, z = ux * vy - uy * vx;
      from[a] += x; from[a + 1] += y; from[a + 2] += z;
      from[b] += x; from[b + 1] += y; from[b + 2] += z;
      from[c] += x; from[c + 1] += y; from[c + 2] += z;
    }
    Head.normalise(from);
    for (let sweep = 0; sweep < NORMAL_SWEEPS; sweep++) {
      for (let v = 0; v < count; v++) {
        let x = from[3 * v], y = from[3 * v + 1], z = from[3 * v + 2];
        for (let i = nearStart[v], end = nearStart[v + 1]; i < end; i++) {
          const u = 3 * near[i];
          x += from[u]; y += from[u + 1]; z += from[u + 2];
        }
        const n = nearStart[v + 1] - nearStart[v] + 1;
        to[3 * v] = x / n; to[3 * v + 1] = y / n; to[3 * v + 2] = z / n;
      }
      [from, to] = [to, from];
    }
    Head.normalise(from);
    this.normals = from; this.spare = to;
  }

  static normalise(vectors) {
    for (let i = 0; i < vectors.length; i += 3) {
      const l = Math.hypot(vectors[i], vectors[i + 1], vectors[i + 2]) || 1;
      vectors[i] /= l; vectors[i + 1] /= l; vectors[i + 2] /= l;
    }
  }
}
