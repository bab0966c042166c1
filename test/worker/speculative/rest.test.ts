import { describe, expect, test } from 'vitest';
import { type DecodeStep, Rest } from '../../../worker/speculative/rest.ts';

const plain: DecodeStep = {
  numRows: 4,
  numTokens: 4,
  isDrafted: false,
  ms: 10,
  proposingMs: 0,
};

/** Steps as they come: plain ones while resting, and drafted ones of this worth otherwise. @returns how many rested */
function run(rest: Rest, numSteps: number, drafted: DecodeStep): number {
  let numResting = 0;
  for (let i = 0; i < numSteps; i += 1) {
    const isResting = rest.isResting(drafted.numRows);
    if (isResting) numResting += 1;
    rest.observe(isResting ? { ...plain, numRows: drafted.numRows } : drafted);
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
    expect(rest.isResting(4)).toBe(false);
  });

  test('hardly ever comes while drafts pay', () => {
    expect(run(new Rest(), 1000, paying)).toBeLessThan(20);
  });

  test.each([
    ['drafts cost more than they give', losing],
    ['thinking of drafts costs more than nothing, and none are made', thinking],
  ])('is most of the time where %s', (_, step) => {
    const rest = new Rest();
    run(rest, 1000, step);
    expect(run(rest, 2000, step)).toBeGreaterThan(1900);
  });

  test('is over soon after drafts begin to pay', () => {
    const rest = new Rest();
    run(rest, 3000, losing);
    expect(run(rest, 2000, paying)).toBeLessThan(600);
  });

  test('comes early when the loss is great', () => {
    const rest = new Rest();
    run(rest, 4, losing);
    expect(run(rest, 8, { ...losing, numTokens: 4, ms: 30 })).toBeGreaterThan(4);
  });

  test('is kept by number of rows', () => {
    const rest = new Rest();
    run(rest, 3000, { ...losing, numRows: 16, numTokens: 18 });
    expect(run(rest, 200, { ...paying, numRows: 1, numTokens: 2 })).toBeLessThan(20);
  });

  test('does not come for one step that something else held up', () => {
    const rest = new Rest();
    run(rest, 12, paying);
    rest.observe({ ...paying, ms: 60 });
    expect(run(rest, 12, paying)).toBeLessThan(3);
  });
});
