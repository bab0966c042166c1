import { describe, expect, it } from 'vitest';
import { Prober, ProbeSchedule, type ProbeStep } from '../../../worker/speculative/probing.ts';

const useless: Omit<ProbeStep, 'step'> = {
  plainMs: 10,
  lossMs: () => 5,
  mightPay: () => true,
  usuallyPays: () => false,
};

function rowOf(schedule: ProbeSchedule, isDrafting = false) {
  return { schedule, drafted: Float64Array.of(0, 0.1, 0.1), isDrafting };
}

describe('ProbeSchedule', () => {
  it('waits twice as long after each failure, up to its longest pause', () => {
    const schedule = new ProbeSchedule(40);
    const steps: number[] = [];
    for (let step = 1; step < 200; step += 1) {
      if (!schedule.isDue(step)) continue;
      steps.push(step);
      schedule.start(step);
    }
    expect(steps).toEqual([1, 17, 49, 89, 129, 169]);
  });

  it('goes on at once after a success', () => {
    const schedule = new ProbeSchedule(1024);
    for (const step of [1, 17, 49]) schedule.start(step);
    schedule.succeed(60);
    expect(schedule.isDue(61)).toBe(true);
    schedule.start(61);
    expect(schedule.isDue(77)).toBe(true);
  });
});

describe('Prober', () => {
  it('tries lengths in turn, and joins rows that are nearly due', () => {
    const prober = new Prober();
    prober.earn(1e6);
    const rows = [rowOf(new ProbeSchedule()), rowOf(new ProbeSchedule())];
    expect(prober.choose(rows, { ...useless, step: 1 })).toEqual([2, 2]);
    expect(prober.choose(rows, { ...useless, step: 2 })).toEqual([0, 0]);

    const late = [rows[0]!, rowOf(new ProbeSchedule())];
    expect(prober.choose(late, { ...useless, step: 17 })).toEqual([1, 1]);
  });

  it('does not try a draft model that is no good to anyone with each new sequence', () => {
    const prober = new Prober();
    prober.earn(1e6);
    let numProbes = 0;
    for (let step = 1; step <= 10_000; step += 1) {
      const row = rowOf(new ProbeSchedule());
      if (prober.choose([row], { ...useless, step })[0]! > 0) numProbes += 1;
    }
    expect(numProbes).toBeLessThan(20);
  });

  it('leaves rows alone that draft anyway, or where nothing could be gained', () => {
    const prober = new Prober();
    prober.earn(1e6);
    const drafting = rowOf(new ProbeSchedule(), true);
    expect(prober.choose([drafting], { ...useless, step: 1 })).toEqual([0]);
    const hopeless = { ...useless, step: 100, mightPay: () => false };
    expect(prober.choose([rowOf(new ProbeSchedule())], hopeless)).toEqual([0]);
  });

  it('spends less than a hundredth of all time', () => {
    const prober = new Prober();
    let spentMs = 0;
    let totalMs = 0;
    for (let step = 1; step <= 20_000; step += 1) {
      const probe = { ...useless, step, lossMs: () => 8, usuallyPays: () => true };
      if (prober.choose([rowOf(new ProbeSchedule())], probe)[0]! > 0) spentMs += 8;
      totalMs += 10;
      prober.earn(10);
    }
    expect(spentMs).toBeGreaterThan(0.004 * totalMs);
    expect(spentMs).toBeLessThan(0.01 * totalMs);
  });
});
