import { describe, expect, it } from 'vitest';
import { DraftThreshold } from '../../../worker/speculative/draft-threshold.ts';
import { seededRng } from '../../support/random.ts';

describe('DraftThreshold', () => {
  it('takes the draft model at its word at first', () => {
    const threshold = new DraftThreshold();
    for (const probability of [0.05, 0.3, 0.75, 0.95]) {
      expect(threshold.acceptanceOf(probability)).toBeCloseTo(probability);
    }
  });

  it('goes on while another token is worth its cost', () => {
    const threshold = new DraftThreshold();
    threshold.price({ costMs: 2, gainMs: 10, acceptance: 0.8 }); // 2 of 8

    expect(threshold.threshold).toBeCloseTo(0.25);
    expect(threshold.goesOn(0.3)).toBe(true);
    expect(threshold.goesOn(0.2)).toBe(false);
  });

  it('stops sooner when drafting is dear, and never where it costs nothing', () => {
    const threshold = new DraftThreshold();
    threshold.price({ costMs: 0, gainMs: 10, acceptance: 0.8 });
    expect(threshold.goesOn(0.001)).toBe(true);
    threshold.price({ costMs: 100, gainMs: 10, acceptance: 0.8 });
    expect(threshold.threshold).toBe(0.9);
  });

  it('learns that a draft model is surer than it is right', () => {
    const threshold = new DraftThreshold();
    const rng = seededRng(1);
    for (let i = 0; i < 500; i += 1) threshold.observe([0.95], rng() < 0.3 ? 1 : 0);
    threshold.price({ costMs: 4, gainMs: 10, acceptance: 1 });

    expect(Math.abs(threshold.acceptanceOf(0.95) - 0.3)).toBeLessThan(0.15);
    expect(threshold.goesOn(0.95)).toBe(false);
    expect(threshold.acceptanceOf(0.45)).toBeCloseTo(0.45);
  });

  it('tells tokens before the first rejection from those after it', () => {
    const threshold = new DraftThreshold();
    for (let i = 0; i < 100; i += 1) threshold.observe([0.95, 0.55, 0.15], 2);
    expect(threshold.acceptanceOf(0.95)).toBeGreaterThan(0.95);
    expect(threshold.acceptanceOf(0.55)).toBeGreaterThan(0.95);
    expect(threshold.acceptanceOf(0.15)).toBeLessThan(0.05);
  });
});
