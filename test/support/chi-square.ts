/** How an observed count came to be expected. */
export interface CellCount {
  readonly observed: number;
  readonly expected: number;
}

/**
 * Cells with fewer expected are too few for the statistic's distribution; they are counted as one.
 */
const MIN_EXPECTED = 5;

/**
 * Pearson's test of counts against what they are expected to be.
 *
 * @returns the probability that counts deviate as much as these or more, when the expectation is
 *   right
 */
export function chiSquareP(cells: readonly CellCount[]): number {
  const large = cells.filter(({ expected }) => expected >= MIN_EXPECTED);
  const small = cells.filter(({ expected }) => expected < MIN_EXPECTED);
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  const rest = {
    observed: sum(small.map(({ observed }) => observed)),
    expected: sum(small.map(({ expected }) => expected)),
  };
  if (rest.expected === 0 && rest.observed > 0) return 0; // the impossible came to pass
  const pooled = rest.expected > 0 ? [...large, rest] : large;
  const statistic = sum(
    pooled.map(({ observed, expected }) => (observed - expected) ** 2 / expected),
  );
  return upperGamma((pooled.length - 1) / 2, statistic / 2);
}

/**
 * Q(a, x), the regularized upper incomplete gamma function: by its series below a + 1, else by its
 * continued fraction (Abramowitz and Stegun, 6.5.29 and 6.5.31).
 */
export function upperGamma(a: number, x: number): number {
  if (x <= 0) return 1;
  const scale = Math.exp(a * Math.log(x) - x - logGamma(a));
  if (x < a + 1) {
    let term = 1 / a;
    let sum = term;
    for (let n = 1; term > sum * 1e-15; n += 1) {
      term *= x / (a + n);
      sum += term;
    }
    return 1 - scale * sum;
  }
  let fraction = 0;
  for (let n = 1_000; n > 0; n -= 1) fraction = (n * (n - a)) / (x + 2 * n + 1 - a - fraction);
  return scale / (x + 1 - a - fraction);
}

/** ln Γ(a) by Stirling's series, after stepping up to where that is exact to 1e-13. */
function logGamma(a: number): number {
  let z = a;
  let product = 1;
  for (; z < 15; z += 1) product *= z;
  const series = 1 / (12 * z) - 1 / (360 * z ** 3) + 1 / (1260 * z ** 5);
  return (z - 0.5) * Math.log(z) - z + 0.5 * Math.log(2 * Math.PI) + series - Math.log(product);
}
