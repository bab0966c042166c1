import { beforeEach, describe, expect, it } from 'vitest';
import type { Sequence } from '../../../worker/engine/sequence.ts';
import { integerFrom, pickFrom, seededRng } from '../../support/random.ts';
import { batch, Steps, unbounded } from '../../support/scheduler-steps.ts';

const unboundedLine = { ...batch, isUnbounded: true } as const;

let steps = new Steps(2);
beforeEach(() => {
  steps = new Steps(2);
});

describe('sequences of class batch beside interactive ones', () => {
  const numRows = (step: string) => step.split(', ').length;

  beforeEach(() => {
    steps = new Steps(8);
    for (const name of 'abcdef') steps.add(name, 1, batch);
    expect(numRows(steps.step())).toBe(6);
    const urgent = steps.add('urgent', 1);
    steps.step(100);
    expect(steps.step(100)).toMatch(/^urgent 1, /);
    steps.scheduler.remove(urgent);
  });

  it('take part one at a time, the oldest first', () => {
    expect([1, 2, 3].map(() => steps.step(150))).toEqual(['a 1', 'a 1', 'a 1']);
  });

  it('take part beside an interactive one that lies next to them', () => {
    steps.add('next', 1);
    steps.step(150);
    expect(steps.step(150)).toBe('next 1, f 1');
  });

  it('take part in one step of eight where they lie apart', () => {
    for (const sequence of steps.scheduler.running.slice(1)) steps.scheduler.remove(sequence);
    steps.add('between', 1, unbounded);
    steps.step(150);
    steps.add('far', 1);
    steps.step(150);
    const seen = Array.from({ length: 16 }, () => steps.step(150));
    expect(seen.filter((step) => step === 'far 1, a 1, between 1')).toHaveLength(2);
    expect(seen.filter((step) => step === 'far 1, between 1')).toHaveLength(14);
  });

  it('all take part again once nobody came for two seconds', () => {
    expect(numRows(steps.step(2100))).toBe(1);
    expect(numRows(steps.step(2101))).toBe(6);
  });

  it('read no more than a few tokens together, so that a step is short for whoever comes', () => {
    for (const sequence of steps.scheduler.running.slice()) steps.scheduler.remove(sequence);
    steps.add('long', 12, batch);
    expect(steps.step(200)).toBe('long 8');
    expect(steps.step(200)).toBe('long 4');
    steps.add('later', 60, batch);
    expect(steps.step(3000)).toBe('long 1, later 60');
  });

  it('take part in turn without bound as well, if nobody reads them', () => {
    for (const sequence of steps.scheduler.running.slice()) steps.scheduler.remove(sequence);
    for (const name of 'xyz') steps.add(name, 20, unboundedLine);
    expect(steps.step(200)).toBe('x 8');
    steps.add('next', 1);
    steps.step(200);
    expect(steps.step(200)).toBe('next 1, z 8');
  });

  it('but for those without bound, which all take part', () => {
    for (const sequence of steps.scheduler.running.slice()) steps.scheduler.remove(sequence);
    for (const name of 'xyz') steps.add(name, 20, unbounded);
    expect(steps.step(200)).toBe('x 20, y 20, z 20');
    expect(steps.step(200)).toBe('x 1, y 1, z 1');
  });
});

describe('sequences of class batch', () => {
  it('give the row of the newest to an interactive one, in the step in which it lacks one', () => {
    steps.add('old', 1, batch);
    steps.add('new', 2, batch);
    expect(steps.step()).toBe('old 1, new 2');
    const urgent = steps.add('urgent', 2);

    expect(steps.step()).toBe('urgent 2');
    expect(steps.step()).toBe('urgent 1, old 1');
    steps.scheduler.remove(urgent);
    expect(steps.step(5000)).toBe('old 1, new 1');
    expect([steps.taken, steps.lost]).toEqual([['new'], []]);
  });

  it('keep their rows from each other, and interactive ones theirs from all', () => {
    steps.add('a', 1, batch);
    steps.add('b', 1);
    steps.step();
    steps.add('c', 1, batch);
    steps.add('d', 1);
    steps.add('e', 1);

    expect(steps.step()).toBe('b 1, d 1');
    expect(steps.steps(9).at(-1)).toBe('b 1, d 1');
    expect(steps.taken).toEqual(['a']);
    expect(steps.scheduler.numWaiting).toBe(3);
  });

  it('wait behind all interactive ones, and then by priority, those first that had a row', () => {
    steps = new Steps(1);
    steps.add('was', 1, { ...batch, priority: 5 });
    steps.step();
    for (const [name, options] of Object.entries({
      same: { ...batch, priority: 5 },
      sooner: { ...batch, priority: 4 },
      later: { ...batch, priority: 6 },
      interactive: { priority: 9 },
    })) {
      steps.add(name, 1, options);
    }

    const order: string[] = [];
    while (steps.scheduler.numWaiting + steps.scheduler.running.length > 0) {
      order.push(steps.step().split(' ')[0]!);
      steps.scheduler.remove(steps.scheduler.running[0]!);
    }
    expect(order).toEqual(['interactive', 'sooner', 'was', 'same', 'later']);
  });

  it('sit out all but every eighth step in which an interactive prompt is read', () => {
    steps = new Steps(2, 2);
    steps.add('batch', 1, batch);
    steps.step();
    steps.add('long', 40);

    const isIn = steps.steps(16).map((step) => step.includes('batch'));
    expect(isIn.flatMap((value, i) => (value ? [i + 1] : []))).toEqual([8, 16]);
  });

  it('take part again once the prompt is read', () => {
    steps.add('batch', 1, batch);
    steps.step();
    steps.add('short', 70);
    expect(steps.steps(3)).toEqual(['short 64', 'short 6', 'short 1, batch 1']);
  });
});

describe('sequences without bound', () => {
  it('give their row away after a turn, and have another in their order', () => {
    steps = new Steps(1);
    for (const name of ['a', 'b', 'c']) steps.add(name, 1, unbounded);

    const readers = steps.steps(18).map((step) => step.split(' ')[0]);
    expect(readers.join('')).toBe('aaabbbcccaaabbbccc');
  });

  it('give their row away also as lines of a batch', () => {
    steps = new Steps(1);
    for (const name of ['a', 'b']) steps.add(name, 1, unboundedLine);
    const readers = steps.steps(12).map((step) => step.split(' ')[0]);
    expect(readers.join('')).toBe('aaabbbaaabbb');
  });

  it('go on while nobody waits', () => {
    steps.add('a', 1, unbounded);
    steps.add('b', 1, unbounded);
    steps.steps(20);
    expect(steps.taken).toEqual([]);
  });

  it('share with those that keep coming, however urgent', () => {
    steps = new Steps(1);
    steps.add('endless', 1, { ...unbounded, priority: 1000 });
    steps.steps(3);
    let numOfEndless = 0;
    for (let i = 0; i < 40; i += 1) {
      steps.add(`${i}`, 1, { ...batch, priority: 1 });
      const step = steps.step();
      if (step.startsWith('endless')) numOfEndless += 1;
      else steps.scheduler.remove(steps.scheduler.running[0]!);
    }
    expect(numOfEndless).toBe(24); // turns of three, and two others between
  });

  it('end their turn although interactive ones keep taking their row', () => {
    steps = new Steps(1);
    steps.add('endless', 1, unbounded);
    steps.step();
    steps.add('waiting', 1, batch);
    const readers: string[] = [];
    for (let i = 0; i < 6; i += 1) {
      const urgent = steps.add('urgent', 1);
      steps.step();
      steps.scheduler.remove(urgent);
      readers.push(steps.step().split(' ')[0]!);
    }
    expect(readers.slice(0, 3)).toEqual(['endless', 'endless', 'waiting']);
  });

  it('are removed wherever they wait', () => {
    steps = new Steps(1);
    const all = ['a', 'b', 'c'].map((name) => steps.add(name, 1, unbounded));
    steps.steps(4);
    expect(steps.taken).toEqual(['a']);
    for (const sequence of all) {
      expect(steps.scheduler.sequencesOf(sequence.requestId)).toEqual([sequence]);
      steps.scheduler.remove(sequence);
      expect(steps.scheduler.sequencesOf(sequence.requestId)).toEqual([]);
    }
    expect(steps.scheduler.numWaiting + steps.scheduler.running.length).toBe(0);
  });
});

it('lets everybody come to its end over 3,000 random steps, and no class before its betters', () => {
  const rng = seededRng(8);
  steps = new Steps(3, 20);
  const wanted = new Map<Sequence, number>();
  for (let i = 0; i < 3000 || wanted.size > 0; i += 1) {
    if (i > 60_000) throw new Error(`${wanted.size} sequences never end`);
    if (i < 3000 && rng() < 0.15) {
      const options = pickFrom(rng, [{}, batch, unbounded]);
      const sequence = steps.add(`${i}`, integerFrom(rng, 1, 100), {
        ...options,
        priority: integerFrom(rng, 1, 4),
      });
      wanted.set(sequence, integerFrom(rng, 1, 30));
    }
    steps.step();

    const { running, numWaiting } = steps.scheduler;
    expect(running.length + numWaiting).toBe(wanted.size);
    expect(running.length).toBe(Math.min(3, wanted.size));
    const interactive = [...wanted.keys()].filter(({ options }) => options.class === 'interactive');
    const isRunning = interactive.filter((sequence) => running.includes(sequence));
    expect(isRunning.length).toBe(Math.min(3, interactive.length));
    for (const [sequence, count] of wanted) {
      if (sequence.numOutputTokens < count) continue;
      steps.scheduler.remove(sequence);
      wanted.delete(sequence);
    }
  }
  expect(steps.taken.length).toBeGreaterThan(30);
  expect(steps.lost).toEqual([]);
});
