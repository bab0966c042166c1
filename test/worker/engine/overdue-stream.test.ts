import { describe, expect, it } from 'vitest';
import {
  contextOf,
  EngineDriver,
  engineJob,
  foldChoices,
  generate,
} from '../../support/engine-driver.ts';
import { batch, Steps, unbounded } from '../../support/scheduler-steps.ts';
import { TinyModel } from '../../support/tiny-model.ts';

const STEP_MS = 10;
const MAX_WAIT_MS = 5000;
const TURN_TOKENS = 64;

/** Interactive ones of four steps each, of which at least one always waits. */
class Crowd {
  readonly #steps: Steps;
  #numAdded = 0;
  #numPresent = 0;
  #nowMs = 0;

  constructor(steps: Steps) {
    this.#steps = steps;
  }

  /** @returns who of the others read in each step */
  run(count: number): string[] {
    const { scheduler, names } = this.#steps;
    return Array.from({ length: count }, () => {
      while (this.#numPresent < 6) this.#add();
      this.#nowMs += STEP_MS;
      const step = this.#steps.step(this.#nowMs);
      for (const sequence of [...scheduler.running]) {
        const isCrowd = names.of(sequence).startsWith('crowd');
        if (!isCrowd || sequence.numOutputTokens < 4) continue;
        scheduler.remove(sequence);
        this.#numPresent -= 1;
      }
      return step
        .split(', ')
        .map((part) => part.split(' ')[0] ?? '')
        .filter((name) => !name.startsWith('crowd'))
        .join(' ');
    });
  }

  #add(): void {
    this.#numAdded += 1;
    this.#numPresent += 1;
    this.#steps.add(`crowd${this.#numAdded}`, 1);
  }
}

interface Turn {
  readonly name: string;
  readonly startMs: number;
  readonly length: number;
}

function turnsOf(readers: readonly string[]): Turn[] {
  const turns: Turn[] = [];
  for (const [i, name] of readers.entries()) {
    const last = turns.at(-1);
    if (last !== undefined && name === readers[i - 1] && name !== '') {
      turns[turns.length - 1] = { ...last, length: last.length + 1 };
    } else if (name !== '') turns.push({ name, startMs: (i + 1) * STEP_MS, length: 1 });
  }
  return turns;
}

describe('a stream without bound that interactive ones leave no row', () => {
  it('has a turn of 64 tokens whenever it has waited for five seconds', () => {
    const steps = new Steps(2);
    const crowd = new Crowd(steps);
    steps.add('endless', 1, unbounded);
    const turns = turnsOf(crowd.run(2000));

    const [first, second, third] = turns;
    expect(turns.map(({ length }) => length).slice(0, 3)).toEqual([64, 64, 64]);
    let endMs = 0;
    for (const { startMs, length } of [first!, second!, third!]) {
      expect(startMs - endMs).toBeGreaterThan(MAX_WAIT_MS);
      expect(startMs - endMs).toBeLessThan(MAX_WAIT_MS + 100 * STEP_MS);
      endMs = startMs + length * STEP_MS;
    }
  });

  it('has it after those that have waited for longer, one at a time', () => {
    const steps = new Steps(4);
    const crowd = new Crowd(steps);
    for (const name of ['a', 'b', 'c']) steps.add(name, 1, unbounded);
    const readers = crowd.run(1500);

    const turns = turnsOf(readers);
    expect(readers.filter((names) => names.includes(' '))).toEqual([]);
    expect(turns.map(({ name }) => name).join('')).toMatch(/^abcabc/);
    for (const { length } of turns.slice(0, 6)) expect(length).toBe(TURN_TOKENS);
  });

  it('leaves its turn to the next when it ends', () => {
    const steps = new Steps(2);
    const crowd = new Crowd(steps);
    const [first] = ['a', 'b'].map((name) => steps.add(name, 1, unbounded));
    const readers = crowd.run(540);
    expect(turnsOf(readers)[0]?.name).toBe('a');
    steps.scheduler.remove(first!);
    expect(turnsOf(crowd.run(100))[0]).toMatchObject({ name: 'b', length: TURN_TOKENS });
  });

  it('does not wait like that as the line of a batch, nor does any other of its class', () => {
    const steps = new Steps(2);
    const crowd = new Crowd(steps);
    steps.add('line', 1, { ...unbounded, isStream: false });
    steps.add('batch', 1, batch);
    expect(turnsOf(crowd.run(1500))).toEqual([]);
  });

  it('has none while there are rows for all: it goes on as ever', () => {
    const steps = new Steps(2);
    const endless = steps.add('endless', 1, unbounded);
    steps.add('other', 1, unbounded);
    for (let nowMs = 0; nowMs < 20_000; nowMs += 100) steps.step(nowMs);
    expect(endless.isOverdue).toBe(false);
    expect(steps.taken).toEqual([]);
  });
});

it('gives the same bytes by turns', async () => {
  const model = new TinyModel();
  let nowMs = 0;
  const context = { ...contextOf(model), now: () => nowMs };
  const contextPolicy = { type: 'sinks', sinkTokens: 4, windowTokens: 60 } as const;
  const job = engineJob({ contextPolicy, maxTokens: 10_000, stop: ['zzzz'], ignoreEos: true });
  const driver = new EngineDriver({ served: { runner: model, context }, maxSequences: 2 });
  driver.start(job);
  const textOf = () => foldChoices(driver.eventsOf(job), 1)[0]!;
  let numSteps = 0;
  while (textOf().tokenIds.length < 300) {
    if (driver.engine.usage.numRunning + driver.engine.usage.numWaiting < 5) {
      driver.start(engineJob({ n: 2, maxTokens: 4, ignoreEos: true }));
    }
    nowMs += 100;
    numSteps += 1;
    await driver.step();
    if (numSteps > 5000) throw new Error('it waits for ever');
  }
  const numTokens = textOf().tokenIds.length;
  driver.engine.cancel(job.id, 'cancelled');
  const whole = await generate({ ...job, maxTokens: numTokens });
  expect(textOf().tokenIds).toEqual(foldChoices(whole, 1)[0]!.tokenIds);
  expect(driver.engine.usage.numPreemptions).toBeGreaterThan(3);
});
