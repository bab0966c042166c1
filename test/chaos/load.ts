import { randomUUID } from 'node:crypto';
import { integerFrom, pickFrom, type Rng, seededRng } from '../support/random.ts';
import type { Adversary } from './adversary.ts';
import { type Answer, isCutFrom, isSame } from './answer.ts';
import { follow, type Outcome, pause } from './client.ts';
import { inParallel } from './in-parallel.ts';
import { type Case, type ChaosRequest, type Manner, randomCase } from './requests.ts';

const NUM_CLIENTS = 12;
/** A client that gave up waits for minutes of recovery, not for one. */
export const PATIENCE_MS = 120_000;
const BETWEEN_KILLS_MS = [150, 900] as const;
/** Events that clients get meanwhile: where all are slow, so is the adversary. */
const BETWEEN_KILLS_EVENTS = [10, 100] as const;
/** Unless nothing moves. */
const MAX_BETWEEN_KILLS_MS = 5000;
const POLL_MS = 20;

/** What a request answers when nothing happens. */
export interface Expected extends Case {
  readonly answer: Answer;
}

export interface Judged {
  readonly request: ChaosRequest;
  readonly manner: Manner;
  readonly expected: Answer;
  readonly outcome: Outcome;
}

/** @throws {Error} when a request fails though nothing happens */
export async function undisturbed(
  edgeUrls: readonly string[],
  count: number,
  seed: number,
): Promise<Expected[]> {
  const rng = seededRng(seed ^ 0x5eed);
  const cases = Array.from({ length: count }, () => randomCase(rng));
  const all: Expected[] = [];
  await inParallel(4, cases, async (each) => {
    const manner = 'whole';
    const options = { edgeUrls, rng, manner, dropChance: 0, patienceMs: PATIENCE_MS } as const;
    const { answer, failure } = await follow(each.request, randomUUID(), options);
    if (answer === null) throw new Error(`a request failed with nobody in its way: ${failure}`);
    all.push({ ...each, answer });
  });
  return all;
}

/** Sends the requests again and again while the adversary does its work, and a while longer. */
export async function disturbed(
  edgeUrls: readonly string[],
  expected: readonly Expected[],
  adversary: Adversary,
  { numKills, seed }: { readonly numKills: number; readonly seed: number },
): Promise<Judged[]> {
  const rng = seededRng(seed ^ 0xc11e);
  const judged: Judged[] = [];
  let isOver = false;
  let numEvents = 0;
  const onEvent = () => {
    numEvents += 1;
  };
  const clients = Array.from({ length: NUM_CLIENTS }, async () => {
    while (!isOver) {
      const { request, manners, answer } = pickFrom(rng, expected);
      const manner = pickFrom(rng, manners);
      const chances = { dropChance: 0.01, patienceMs: PATIENCE_MS };
      const options = { edgeUrls, rng, manner, ...chances, onEvent };
      const outcome = await follow(request, randomUUID(), options);
      judged.push({ request, manner, expected: answer, outcome });
    }
  });
  try {
    await harm(adversary, numKills, rng, {
      numAnswered: () => judged.length,
      numEvents: () => numEvents,
    });
    await adversary.settle();
  } finally {
    isOver = true;
  }
  await Promise.all(clients);
  return judged;
}

/** How far the clients have come. */
interface Advance {
  readonly numAnswered: () => number;
  readonly numEvents: () => number;
}

async function harm(
  adversary: Adversary,
  numKills: number,
  rng: Rng,
  { numAnswered, numEvents }: Advance,
): Promise<void> {
  let numSaid = 0;
  while (adversary.numKills < numKills) {
    adversary.strike();
    const until = numEvents() + integerFrom(rng, ...BETWEEN_KILLS_EVENTS);
    await pause(integerFrom(rng, ...BETWEEN_KILLS_MS));
    const deadlineMs = performance.now() + MAX_BETWEEN_KILLS_MS;
    while (numEvents() < until && performance.now() < deadlineMs) await pause(POLL_MS);
    if (adversary.numKills < numSaid + 25) continue;
    numSaid = adversary.numKills;
    console.log(`${numSaid} kills, ${numAnswered()} requests answered`);
  }
}

/** Whether a client was told something else than when nothing happens. */
export function isDiffering({ manner, expected, outcome: { answer } }: Judged): boolean {
  if (answer === null) return false;
  if (manner === 'whole') return !isSame(answer, expected);
  return answer.seed !== expected.seed || !isCutFrom(answer, expected);
}

export function explain(judged: Judged): void {
  const { request, manner, expected, outcome } = judged;
  const asked = `${manner} ${request.path} ${JSON.stringify(request.body)}`;
  if (outcome.failure !== null) console.log(`failed: ${outcome.failure} ${asked}`);
  else if (isDiffering(judged)) {
    const [told, known] = [outcome.answer, expected].map((answer) => JSON.stringify(answer));
    console.log(`differs: ${asked}\n  ${known}\n  ${told}`);
  }
}
