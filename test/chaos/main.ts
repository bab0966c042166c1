import { randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';
import { integerFrom, pickFrom, seededRng } from '../support/random.ts';
import { Adversary } from './adversary.ts';
import type { Answer } from './answer.ts';
import { follow, type Outcome } from './client.ts';
import { AWAY_MS, type Cluster, openCluster } from './cluster.ts';
import { inParallel } from './in-parallel.ts';
import { ChaosJobs, isAccounted } from './jobs.ts';
import type { Victim } from './process.ts';
import { ChaosReceivers } from './receivers.ts';
import { type ChaosRequest, randomRequest } from './requests.ts';

const NUM_CLIENTS = 12;
/** A client that gave up waits for minutes of recovery, not for one. */
const PATIENCE_MS = 120_000;
const BETWEEN_KILLS_MS = [150, 900] as const;
/** After the verdict, nobody waits longer for what was started to end. */
const CLOSED_WITHIN_MS = 60_000;

interface Expected {
  readonly request: ChaosRequest;
  readonly answer: Answer;
}

/**
 * `npm run chaos -- --kills N [--seed S] [--requests R] [--jobs J]`: kills, cuts and delays, and
 * compares every byte. With jobs, every notice of every job is accounted for as well.
 */
async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      kills: { type: 'string', default: '100' },
      seed: { type: 'string', default: '1' },
      requests: { type: 'string', default: '60' },
      jobs: { type: 'string', default: '0' },
    },
  });
  const numKills = Number(values.kills);
  const seed = Number(values.seed);
  const startMs = performance.now();
  const numJobs = Number(values.jobs);
  const webhooks = numJobs > 0 ? 2 : 0;
  await using cluster = await openCluster({ edges: 2, workers: 3, webhooks });
  console.log(`two edges and three workers serve; their log is ${cluster.logFile}`);

  const expected = await undisturbed(cluster, Number(values.requests), seed);
  console.log(
    `${expected.length} requests answered undisturbed; now ${numKills} kills, seed ${seed}`,
  );
  const adversary = new Adversary(cluster, seededRng(seed));
  await using receivers = await ChaosReceivers.open(AWAY_MS);
  const { edgeUrls, redisUrl } = cluster;
  const rng = seededRng(seed ^ 0x10b5);
  const jobs = new ChaosJobs({ edgeUrls, redisUrl, receivers, rng, patienceMs: PATIENCE_MS });
  const [outcomes] = await Promise.all([
    disturbed(cluster, expected, adversary, { numKills, seed }),
    jobs.submit(expected, numJobs),
  ]);
  const report = {
    ...reportOf(outcomes),
    kills: adversary.numKills,
    kills_by_kind: adversary.killsByKind,
    crashes: sum([...cluster.edges, ...cluster.workers, ...cluster.webhooks].map(crashesOf)),
    ...(await jobs.account()),
    seed,
    seconds: Math.round((performance.now() - startMs) / 1000),
  };
  for (const { expected, outcome } of outcomes) explain(expected, outcome);
  console.log(JSON.stringify(report));
  const isSound = report.lost + report.duplicated + report.differing + report.failed === 0;
  process.exitCode = isSound && isAccounted(report) && report.requests > 0 ? 0 : 1;
  setTimeout(leave, CLOSED_WITHIN_MS).unref();
}

/** Says what is still open, and ends with the verdict. */
function leave(): void {
  const open = process.getActiveResourcesInfo().join(' ');
  console.error(`still open ${CLOSED_WITHIN_MS / 1000} s after the end: ${open}`);
  process.exit();
}

function crashesOf({ numCrashes }: Victim): number {
  return numCrashes;
}

function reportOf(outcomes: readonly Judged[]) {
  return {
    requests: outcomes.length,
    events: sum(outcomes.map(({ outcome }) => outcome.numEvents)),
    reconnects: sum(outcomes.map(({ outcome }) => outcome.numReconnects)),
    lost: sum(outcomes.map(({ outcome }) => outcome.numLost)),
    duplicated: sum(outcomes.map(({ outcome }) => outcome.numDuplicated)),
    differing: outcomes.filter(isDiffering).length,
    failed: outcomes.filter(({ outcome }) => outcome.failure !== null).length,
    ...pauses(outcomes),
  };
}

/** What each request answers when nothing happens. @throws {Error} when one fails even then */
async function undisturbed(cluster: Cluster, count: number, seed: number): Promise<Expected[]> {
  const rng = seededRng(seed ^ 0x5eed);
  const requests = Array.from({ length: count }, () => randomRequest(rng));
  const all: Expected[] = [];
  await inParallel(4, requests, async (request) => {
    const options = { edgeUrls: cluster.edgeUrls, rng, dropChance: 0, patienceMs: PATIENCE_MS };
    const { answer, failure } = await follow(request, randomUUID(), options);
    if (answer === null) throw new Error(`a request failed with nobody in its way: ${failure}`);
    all.push({ request, answer });
  });
  return all;
}

interface Judged {
  readonly expected: Expected;
  readonly outcome: Outcome;
}

/** Sends the requests again and again while the adversary does its work, and a while longer. */
async function disturbed(
  cluster: Cluster,
  expected: readonly Expected[],
  adversary: Adversary,
  { numKills, seed }: { readonly numKills: number; readonly seed: number },
): Promise<Judged[]> {
  const rng = seededRng(seed ^ 0xc11e);
  const judged: Judged[] = [];
  let isOver = false;
  const clients = Array.from({ length: NUM_CLIENTS }, async () => {
    while (!isOver) {
      const each = pickFrom(rng, expected);
      const options = {
        edgeUrls: cluster.edgeUrls,
        rng,
        dropChance: 0.01,
        patienceMs: PATIENCE_MS,
      };
      judged.push({ expected: each, outcome: await follow(each.request, randomUUID(), options) });
    }
  });
  try {
    let numSaid = 0;
    while (adversary.numKills < numKills) {
      adversary.strike();
      await new Promise((resolve) => setTimeout(resolve, integerFrom(rng, ...BETWEEN_KILLS_MS)));
      if (adversary.numKills < numSaid + 25) continue;
      numSaid = adversary.numKills;
      console.log(`${numSaid} kills, ${judged.length} requests answered`);
    }
    await adversary.settle();
  } finally {
    isOver = true;
  }
  await Promise.all(clients);
  return judged;
}

function isDiffering({ expected, outcome }: Judged): boolean {
  return outcome.answer !== null && outcome.answer !== expected.answer;
}

function explain({ request, answer }: Expected, outcome: Outcome): void {
  if (outcome.failure !== null) console.log(`failed: ${outcome.failure}`, JSON.stringify(request));
  else if (outcome.answer !== answer) {
    console.log(`differs: ${JSON.stringify(request)}\n  ${answer}\n  ${outcome.answer}`);
  }
}

/** Silences that a kill explains: longer than a step of a busy machine takes. */
function pauses(outcomes: readonly Judged[]): { pause_p50_ms: number; pause_p99_ms: number } {
  const sorted = outcomes
    .map(({ outcome }) => outcome.longestPauseMs)
    .filter((ms) => ms >= 250)
    .sort((a, b) => a - b);
  const at = (share: number) => Math.round(sorted[Math.floor((sorted.length - 1) * share)] ?? 0);
  return { pause_p50_ms: at(0.5), pause_p99_ms: at(0.99) };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

await main();
