import { parseArgs } from 'node:util';
import { seededRng } from '../support/random.ts';
import { Adversary } from './adversary.ts';
import { ChaosApi } from './api.ts';
import { ChaosBatch } from './batch.ts';
import { AWAY_MS, type Cluster, openCluster } from './cluster.ts';
import { ChaosJobs, isAccounted } from './jobs.ts';
import { disturbed, explain, isDiffering, type Judged, PATIENCE_MS, undisturbed } from './load.ts';
import { countOrphans } from './orphans.ts';
import { reportPauses } from './pauses.ts';
import { ChaosReceivers } from './receivers.ts';

/** Longer than any grace for clients who may come back. */
const LEFT_WITHIN_MS = 60_000;
/** Lines give way to requests, so most of them are done when those have ended. */
const BATCH_WITHIN_MS = 300_000;
/** After the verdict, nobody waits longer for what was started to end. */
const CLOSED_WITHIN_MS = 60_000;

/**
 * `npm run chaos -- --kills N [--seed S] [--requests R] [--jobs J] [--lines L]`: kills, freezes,
 * cuts and delays, and compares every byte. With jobs, every notice of every job is accounted for
 * as well; with lines, a batch of so many is compared line by line.
 */
async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      kills: { type: 'string', default: '100' },
      seed: { type: 'string', default: '1' },
      requests: { type: 'string', default: '60' },
      jobs: { type: 'string', default: '0' },
      lines: { type: 'string', default: '0' },
    },
  });
  const numKills = Number(values.kills);
  const seed = Number(values.seed);
  const numJobs = Number(values.jobs);
  const numLines = Number(values.lines);
  const startMs = performance.now();
  await using cluster = await openCluster({
    edges: 2,
    workers: 3,
    webhooks: numJobs > 0 ? 2 : 0,
    batches: numLines > 0 ? 2 : 0,
  });
  console.log(`two edges and three workers serve; their log is ${cluster.logFile}`);

  const { edgeUrls } = cluster;
  const expected = await undisturbed(edgeUrls, Number(values.requests), seed);
  const told = `${expected.length} requests answered undisturbed`;
  console.log(`${told}; now ${numKills} kills, seed ${seed}`);
  const adversary = new Adversary(cluster, seededRng(seed));
  await using receivers = await ChaosReceivers.open(AWAY_MS);
  const rng = seededRng(seed ^ 0x10b5);
  const api = new ChaosApi({ edgeUrls, rng, patienceMs: PATIENCE_MS });
  const jobs = new ChaosJobs({ api, receivers, rng, patienceMs: PATIENCE_MS });
  const batch = new ChaosBatch(api, expected, numLines, rng);
  const [judged] = await Promise.all([
    disturbed(edgeUrls, expected, adversary, { numKills, seed }),
    jobs.submit(expected, numJobs),
    batch.submit(),
  ]);
  const report = {
    ...reportOf(judged),
    ...reportPauses(
      judged.flatMap(({ outcome }) => outcome.pauses),
      adversary.kills,
    ),
    kills: adversary.numKills,
    kills_by_kind: adversary.count('kills'),
    cuts_by_kind: adversary.count('cuts'),
    crashes: numCrashes(cluster),
    orphans: await countOrphans(edgeUrls[0] ?? '', leftBehind(judged), LEFT_WITHIN_MS),
    ...(await jobs.account()),
    ...(await batch.account(BATCH_WITHIN_MS)),
    seed,
    seconds: Math.round((performance.now() - startMs) / 1000),
  };
  for (const each of judged) explain(each);
  console.log(JSON.stringify(report));
  const isRight = isSound(report) && isAccounted(report) && report.batch_faults === 0;
  process.exitCode = isRight ? 0 : 1;
  setTimeout(leave, CLOSED_WITHIN_MS).unref();
}

/** Says what is still open, and ends with the verdict. */
function leave(): void {
  const open = process.getActiveResourcesInfo().join(' ');
  console.error(`still open ${CLOSED_WITHIN_MS / 1000} s after the end: ${open}`);
  process.exit();
}

function numCrashes({ edges, workers, webhooks, batches }: Cluster): number {
  return sum([...edges, ...workers, ...webhooks, ...batches].map((each) => each.numCrashes));
}

function leftBehind(judged: readonly Judged[]): string[] {
  return judged.flatMap(({ manner, outcome: { requestId } }) =>
    manner === 'leave' && requestId !== null ? [requestId] : [],
  );
}

function reportOf(judged: readonly Judged[]) {
  const outcomes = judged.map(({ outcome }) => outcome);
  const countOf = (manners: readonly string[]) =>
    judged.filter(({ manner }) => manners.includes(manner)).length;
  return {
    requests: outcomes.length,
    requests_cut_short: countOf(['cancel', 'deadline', 'leave']),
    requests_without_end: countOf(['endless']),
    events: sum(outcomes.map(({ numEvents }) => numEvents)),
    reconnects: sum(outcomes.map(({ numReconnects }) => numReconnects)),
    lost: sum(outcomes.map(({ numLost }) => numLost)),
    duplicated: sum(outcomes.map(({ numDuplicated }) => numDuplicated)),
    differing: judged.filter(isDiffering).length,
    failed: outcomes.filter(({ failure }) => failure !== null).length,
  };
}

interface Verdict extends ReturnType<typeof reportOf> {
  readonly crashes: number;
  readonly orphans: number;
}

function isSound({ requests, lost, duplicated, differing, failed, crashes, orphans }: Verdict) {
  return requests > 0 && lost + duplicated + differing + failed + crashes + orphans === 0;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

await main();
process.exit(); // Node itself may wait for ever for a handle of a connection that was cut
