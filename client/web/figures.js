// Figures of a gateway: OpenMetrics text in, numbers out. What two readings differ by is a rate. No DOM and no network here.

/** One reading: families' samples by name, and when it was taken (milliseconds). */
export class Reading {
  constructor(text, at) {
    this.at = at;
    this.samples = new Map();
    for (const line of text.split('\n')) {
      if (line === '' || line.startsWith('#')) continue;
      const end = line.lastIndexOf(' ');
      const series = line.slice(0, end);
      const open = series.indexOf('{');
      const name = open < 0 ? series : series.slice(0, open);
      const labels = open < 0 ? {} : parseLabels(series.slice(open + 1, -1));
      if (!this.samples.has(name)) this.samples.set(name, []);
      this.samples.get(name).push({ labels, value: Number(line.slice(end + 1)) });
    }
  }

  /** The sum of a family's samples, of those with a label's value where one is given; 0 where there are none. */
  sum(name, label, value) {
    let sum = 0;
    for (const sample of this.samples.get(name) ?? []) {
      if (label === undefined || sample.labels[label] === value) sum += sample.value;
    }
    return sum;
  }

  /** The values a label has in a family, in their order. */
  values(name, label) {
    return [...new Set((this.samples.get(name) ?? []).map((sample) => sample.labels[label]))];
  }

  has(name) {
    return this.samples.has(name);
  }
}

function parseLabels(text) {
  const labels = {};
  for (const [, name, value] of text.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[name] = value;
  return labels;
}

/** How fast a counter grows from one reading to the next, a second. A gateway that started anew begins at 0. */
export function rate(before, now, name, label, value) {
  if (!before || now.at <= before.at) return 0;
  const grown = now.sum(name, label, value) - before.sum(name, label, value);
  return Math.max(0, grown) / ((now.at - before.at) / 1000);
}

/** A quantile of what a histogram counted from one reading to the next, in its unit; `null` where it counted nothing. */
export function quantile(before, now, name, share) {
  const counts = now.values(`${name}_bucket`, 'le').map((le) => {
    const since = before ? before.sum(`${name}_bucket`, 'le', le) : 0;
    return [le === '+Inf' ? Infinity : Number(le), now.sum(`${name}_bucket`, 'le', le) - since];
  });
  const total = counts.at(-1)?.[1] ?? 0;
  if (total <= 0) return null;
  let [low, below] = [0, 0];
  for (const [bound, count] of counts) {
    if (count >= share * total) {
      if (bound === Infinity) return low;
      return count === below ? bound : low + ((bound - low) * (share * total - below)) / (count - below);
    }
    [low, below] = [bound, count];
  }
  return low;
}

const thousands = ['', ' k', ' M', ' G', ' T'];

/** A count with at most three figures that say something. */
export function count(value) {
  if (!Number.isFinite(value)) return '–';
  let step = 0;
  let rest = Math.abs(value);
  while (rest >= 10_000 || (step > 0 && rest >= 1000)) {
    rest /= 1000;
    step += 1;
  }
  const text = step === 0 && Number.isInteger(value) ? String(Math.abs(value)) : rest.toPrecision(3).replace(/\.?0+$/, (zeros) => (zeros.startsWith('.') ? '' : zeros));
  return `${value < 0 ? '−' : ''}${rest >= 100 || step === 0 && rest >= 100 ? Math.round(rest) : text}${thousands[step]}`;
}

const binary = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** Bytes. */
export function bytes(value) {
  let step = 0;
  let rest = value;
  while (rest >= 1024 && step < binary.length - 1) {
    rest /= 1024;
    step += 1;
  }
  return `${step === 0 || rest >= 100 ? Math.round(rest) : rest.toFixed(1)} ${binary[step]}`;
}

/** Seconds, as short as they are. */
export function duration(seconds) {
  if (seconds === null) return '–';
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1000).toPrecision(2).replace(/\.0$/, '')} ms`;
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} days`;
}

/** A share. */
export function percent(share) {
  return Number.isFinite(share) ? `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %` : '–';
}
