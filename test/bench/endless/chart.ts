/** One line of a chart: `null` where there is no value. */
export interface Curve {
  readonly name: string;
  readonly color: string;
  readonly values: readonly (number | null)[]; // at equal distances
}

const WIDTH = 860;
const HEIGHT = 420;
const LEFT = 64;
const TOP = 48;
const BOTTOM = 52;
const RIGHT = 20;
const TICKS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];

/** Lines over the length of a text, on a logarithmic scale, as an SVG. */
export function drawChart(
  title: string,
  curves: readonly Curve[],
  { numTokens }: { readonly numTokens: number },
): string {
  const values = curves.flatMap((curve) => curve.values.filter((value) => value !== null));
  const low = Math.log(Math.min(...values) * 0.9);
  const high = Math.log(Math.max(...values) * 1.1);
  const x = (share: number) => (LEFT + share * (WIDTH - LEFT - RIGHT)).toFixed(1);
  const y = (value: number) => {
    const share = (Math.log(value) - low) / (high - low);
    return (HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)).toFixed(1);
  };
  const ticks = TICKS.filter((tick) => Math.log(tick) > low && Math.log(tick) < high).map(
    (tick) =>
      `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(tick)}" y2="${y(tick)}" stroke="#ddd"/>` +
      `<text x="${LEFT - 8}" y="${y(tick)}" text-anchor="end" dominant-baseline="middle">${tick}</text>`,
  );
  const marks = [0, 0.25, 0.5, 0.75, 1].map(
    (share) =>
      `<text x="${x(share)}" y="${HEIGHT - BOTTOM + 20}" text-anchor="middle">` +
      `${Math.round(share * numTokens).toLocaleString('en')}</text>`,
  );
  const lines = curves.map(({ values: line, color }) => {
    const last = Math.max(1, line.length - 1);
    const points = line.flatMap((value, i) =>
      value === null ? [] : [`${x(i / last)},${y(value)}`],
    );
    return `<polyline points="${points.join(' ')}" fill="none" stroke="${color}" stroke-width="1.5"/>`;
  });
  const legend = curves.map(({ name, color }, i) => {
    const at = LEFT + i * 158;
    return (
      `<line x1="${at}" x2="${at + 22}" y1="34" y2="34" stroke="${color}" stroke-width="3"/>` +
      `<text x="${at + 28}" y="34" dominant-baseline="middle">${name}</text>`
    );
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<title>${title}</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    `<text x="${LEFT}" y="16" font-size="14">${title}</text>`,
    ...legend,
    ...ticks,
    ...marks,
    `<text x="${WIDTH / 2}" y="${HEIGHT - 10}" text-anchor="middle">tokens read</text>`,
    ...lines,
    '</svg>',
    '',
  ].join('\n');
}
