/** Uniform numbers in [0, 1). */
export type Rng = () => number;

/** The same numbers for the same seed, for laws under random operations (mulberry32). */
export function seededRng(seed: number): Rng {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** An integer in [start, end). */
export function integerFrom(rng: Rng, start: number, end: number): number {
  return start + Math.floor(rng() * (end - start));
}

export function pickFrom<T>(rng: Rng, items: readonly T[]): T {
  const item = items[Math.floor(rng() * items.length)];
  if (item === undefined) throw new RangeError('nothing to pick from');
  return item;
}

/**
 * Logits as filters meet them: some equal, some filtered out, some far above or below the others.
 */
export function randomLogits(rng: Rng, vocabSize: number): Float32Array {
  const spread = pickFrom(rng, [0.5, 3, 20]);
  const logits = Float32Array.from({ length: vocabSize }, () => {
    const kind = rng();
    if (kind < 0.1) return -Infinity;
    if (kind < 0.12) return pickFrom(rng, [-1e30, -500, 200]);
    if (kind < 0.5) return Math.round((rng() - 0.5) * 6) / 2; // equal to many others
    return (rng() - 0.5) * 2 * spread;
  });
  logits[integerFrom(rng, 0, vocabSize)] = rng();
  return logits;
}

/** The same items in another order. */
export function shuffled<T>(rng: Rng, items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, key: rng() }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);
}
