import { describe, expect, it } from 'vitest';
import { rowBytes } from '../../../worker/cache/layout.ts';
import type { Sequence } from '../../../worker/engine/sequence.ts';
import { integerFrom, pickFrom, seededRng } from '../../support/random.ts';
import { batch, Steps, stepsShape, unbounded } from '../../support/scheduler-steps.ts';

/** Memory for rows of these capacities. */
const bytesOf = (...capacities: number[]) =>
  capacities.reduce((sum, capacity) => sum + rowBytes(stepsShape, capacity), 0);

describe('sequences that outgrow the memory of the cache', () => {
  it('leave it to the oldest, and read on from where they were once there is room', () => {
    const steps = new Steps(2, 200, bytesOf(128, 64));
    const old = steps.add('old', 62);
    steps.add('new', 62);
    expect(steps.steps(2)).toEqual(['old 62, new 62', 'old 1, new 1']);
    // A token more fills the block of either, and there is room for one block more.
    expect(steps.steps(3)).toEqual(['old 1', 'old 1', 'old 1']);
    expect([steps.taken, steps.lost]).toEqual([['new'], ['new']]);
    steps.scheduler.remove(old);
    expect(steps.step()).toBe('new 64');
  });

  it('are those of class batch first', () => {
    const steps = new Steps(3, 200, bytesOf(64, 64, 64));
    steps.add('batch', 1, batch);
    steps.add('a', 62);
    steps.add('b', 1);
    expect(steps.step()).toContain('a 62');
    steps.steps(3);
    expect(steps.taken).toEqual(['batch']);
    expect(steps.scheduler.running.map((each) => steps.names.of(each))).toEqual(['a', 'b']);
  });

  it('come in with memory for all of their tokens only', () => {
    const steps = new Steps(3, 1000, bytesOf(256, 64));
    const first = steps.add('first', 70);
    steps.add('long', 200);
    steps.add('short', 1);
    expect(steps.step()).toBe('first 64');
    expect(steps.scheduler.numWaiting).toBe(2);
    steps.scheduler.remove(first);
    expect(steps.step()).toBe('short 1, long 64');
  });

  it('take the row of one of class batch for its memory', () => {
    const steps = new Steps(3, 1000, bytesOf(128, 64));
    steps.add('batch', 10, batch);
    steps.add('other', 10, batch);
    steps.step();
    steps.add('urgent', 100);
    expect(steps.step()).toBe('urgent 64');
    expect(steps.taken).toEqual(['other']);
  });

  it('run alone however little there is', () => {
    const steps = new Steps(2, 1000, 1);
    steps.add('a', 200);
    steps.add('b', 1);
    expect(steps.steps(6).at(-1)).toBe('a 1');
  });

  it('have longer turns where what they had is to be read again', () => {
    const steps = new Steps(1, 100, bytesOf(64));
    steps.add('a', 10, unbounded);
    steps.add('b', 1, unbounded);
    const readers = steps.steps(45).map((step) => step.split(' ')[0]);

    // Turns of three tokens, but of ten behind a prompt of ten, and of all that a row once had.
    const turns = readers
      .join('')
      .match(/a+|b+/g)
      ?.map(({ length }) => length);
    expect(turns?.slice(0, 4)).toEqual([10, 3, 20, 4]);
  });
});

it('keeps to its memory and lets everybody come to its end over 2,000 random steps', () => {
  const rng = seededRng(12);
  const steps = new Steps(4, 60, bytesOf(512, 256, 64));
  const wanted = new Map<Sequence, number>();
  for (let i = 0; i < 2000 || wanted.size > 0; i += 1) {
    if (i > 60_000) throw new Error(`${wanted.size} sequences never end`);
    if (i < 2000 && rng() < 0.1) {
      const options = pickFrom(rng, [{}, {}, batch, unbounded]);
      const sequence = steps.add(`${i}`, integerFrom(rng, 1, 200), options);
      wanted.set(sequence, integerFrom(rng, 1, 200));
    }
    expect(steps.step()).not.toBe(wanted.size > 0 ? '' : null);
    expect(steps.cache.numBytes).toBeLessThanOrEqual(steps.cache.maxBytes);
    for (const [sequence, count] of wanted) {
      if (sequence.numOutputTokens < count) continue;
      steps.scheduler.remove(sequence);
      wanted.delete(sequence);
    }
  }
  expect(steps.cache.numBytes).toBe(0);
  expect(steps.lost.length).toBeGreaterThan(10);
  expect(steps.taken.length).toBeGreaterThan(steps.lost.length);
});
