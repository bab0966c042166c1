import { describe, expect, test } from 'vitest';
import { type DecodeStep, Rest } from '../../../worker/speculative/rest.ts';

const plain: DecodeStep = {
  numRows: 4,
  numTokens: 4,
  isDrafted: false,
  ms: 10,
  proposingMs: 0,
};

/**
 * Steps as they come: plain ones while resting, and looks of this worth otherwise. @returns how
 * many rested
 */
function run(rest: Rest, numSteps: number, look: DecodeStep): number {
  let numResting = 0;
  for (let i = 0; i < numSteps; i += 1) {
    const isResting = rest.isResting(look.numRows) || rest.isTiming(look.numRows);
    if (isResting) numResting += 1;
    rest.observe(isResting ? { ...plain, numRows: look.numRows } : look);
  }
  return numResting;
}

const losing = { ...plain, isDrafted: true, numTokens: 5, ms: 15 };
const paying = { ...plain, isDrafted: true, numTokens: 8, ms: 15 };
const thinking = { ...plain, ms: 11, proposingMs: 1 };

describe('a rest', () => {
  test('begins with a few plain steps, to know what they take', () => {
    const rest = new Rest();
    expect(run(rest, 4, paying)).toBe(4);
    expect(rest.isTiming(4)).toBe(false);
  });

  test('hardly ever comes while drafts pay', () => {
    expect(run(new Rest(0), 1000, paying)).toBeLessThan(20);
  });

  test.each([
    ['drafts cost more than they give', losing, 0.25],
    ['a draft costs much and gives nothing', { ...losing, numTokens: 4, ms: 60 }, 5],
    ['a draft model reads long texts before', { ...losing, ms: 225, proposingMs: 210 }, 21.25],
    ['thinking of drafts costs more than nothing, and none are made', thinking, 0.1],
  ])('keeps the loss to a hundredth where %s', (_, step, lostSteps) => {
    const rest = new Rest(0);
    run(rest, 1000, step);
    const numLooks = 10_000 - run(rest, 10_000, step);
    expect(numLooks).toBeGreaterThan(0);
    expect(numLooks * lostSteps).toBeLessThan(0.01 * 10_000);
  });

  test('is over soon after drafts begin to pay', () => {
    const rest = new Rest(0);
    run(rest, 3000, losing);
    expect(run(rest, 2000, paying)).toBeLessThan(600);
  });

  test('does not come for the first steps of a worker, whose code is still being compiled', () => {
    const rest = new Rest();
    expect(run(rest, 36, { ...losing, ms: 60, proposingMs: 45 })).toBe(4);
    expect(run(rest, 100, losing)).toBeGreaterThan(60);
  });

  test('gives a look a few steps to pay for what was missed', () => {
    const rest = new Rest(0);
    run(rest, 1000, losing);
    while (rest.isResting(4)) rest.observe(plain);
    rest.observe({ ...paying, ms: 40, proposingMs: 25 });
    expect(rest.isResting(4)).toBe(false);
    rest.observe({ ...paying, ms: 140, proposingMs: 125 });
    expect(rest.isResting(4)).toBe(true);
  });

  test('comes early when the loss is great', () => {
    const rest = new Rest(0);
    run(rest, 4, losing);
    expect(run(rest, 8, { ...losing, numTokens: 4, ms: 40 })).toBeGreaterThan(4);
  });

  test('is followed by plain steps where none was seen in it', () => {
    const rest = new Rest(0);
    run(rest, 8, losing);
    while (!rest.isResting(4)) rest.observe(losing);
    while (rest.isResting(4)) rest.observe({ ...paying, ms: 30 });
    expect(rest.isTiming(4)).toBe(true);
  });

  test('is kept by number of rows', () => {
    const rest = new Rest(0);
    run(rest, 10, { ...paying, numRows: 1, numTokens: 2 });
    run(rest, 3000, { ...losing, numRows: 16, numTokens: 18 });
    expect(run(rest, 200, { ...paying, numRows: 1, numTokens: 2 })).toBeLessThan(20);
  });

  test('does not come for one step that something else held up', () => {
    const rest = new Rest(0);
    run(rest, 12, paying);
    rest.observe({ ...paying, ms: 1000 });
    expect(run(rest, 12, paying)).toBeLessThan(3);
  });

  test('still comes after one plain step that something else held up', () => {
    const rest = new Rest(0);
    run(rest, 20, plain);
    rest.observe({ ...plain, ms: 1000 });
    expect(run(rest, 1000, losing)).toBeGreaterThan(900);
  });

  test('is where others read their prompts, until drafts have paid', () => {
    const rest = new Rest(0);
    run(rest, 8, plain);
    expect(rest.isResting(4)).toBe(false);
    expect(rest.isResting(4, true)).toBe(true);
    run(rest, 40, paying);
    expect(rest.isResting(4, true)).toBe(false);
  });

  test('goes over to a number of rows that was not seen before', () => {
    const rest = new Rest(0);
    run(rest, 100, losing);
    expect(rest.isResting(4)).toBe(true);
    expect(rest.isResting(5)).toBe(true);
  });
});
