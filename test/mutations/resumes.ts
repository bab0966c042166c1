import { type Mutant, patchesOf } from './mutant.ts';

const ABANDON_TESTS = ['test/edge/abandon.test.ts'];
const RESUME_TESTS = ['test/worker/engine/engine-sinks.test.ts'];
const READING_TESTS = ['test/integration/published.test.ts'];
const TRIMMING_TESTS = ['test/integration/log-trimming.test.ts'];
const RUN_TESTS = ['test/integration/request-run.test.ts'];
const CLAIM_TESTS = ['test/integration/scripts-claim.test.ts'];
const LOG_TESTS = ['test/integration/scripts-log.test.ts'];

const abandon = patchesOf('edge/abandon.ts');
const endless = patchesOf('shared/protocol/endless.ts');
const published = patchesOf('worker/queue/published.ts');
const trimmer = patchesOf('worker/queue/log-trimmer.ts');
const run = patchesOf('worker/queue/request-run.ts');
const scripts = patchesOf('shared/protocol/scripts.ts');
const claims = patchesOf('shared/protocol/claim-scripts.ts');

/** Of how a request goes on at another worker or edge. */
export const RESUMES: readonly Mutant[] = [
  {
    name: 'a client that came back while Redis was away is forgotten',
    patches: [abandon('isRead || nowMs - lastLookMs > lookMs + MAX_BLIND_MS', 'isRead')],
    tests: ABANDON_TESTS,
  },
  {
    name: 'a client that was there during the grace is forgotten',
    patches: [abandon('if (isRead || nowMs', 'if (nowMs')],
    tests: ABANDON_TESTS,
  },
  {
    name: 'text that a stop string holds back is not read again',
    patches: [endless('end.textLength >= minText ||', 'true ||')],
    tests: RESUME_TESTS,
  },
  {
    name: 'a log is read to where its request has enough tokens, but not enough text',
    patches: [endless('2 * longestStop + MAX_HALF_CHARACTER', '0')],
    tests: READING_TESTS,
  },
  {
    name: 'tokens that are not read are not counted',
    patches: [published('(known?.numTokens ?? this.#numTokens) - this.#numTokens', '0')],
    tests: READING_TESTS,
  },
  {
    name: 'a call that is sent again late sets progress back',
    patches: [scripts('if numListening then', 'if true then')],
    tests: READING_TESTS,
  },
  {
    name: 'places to cut at are forgotten with the claim',
    patches: [trimmer('this.#marks = published.marks;', 'this.#marks = [];')],
    tests: TRIMMING_TESTS,
  },
  {
    name: 'a log is cut where a worker that takes over would need it',
    patches: [trimmer('isEnoughToResume(job, end)', 'true')],
    tests: TRIMMING_TESTS,
  },
  {
    name: 'a request that came back is begun by who had it before',
    patches: [run('if (this.#isLeaving || this.#isDropped) return', 'if (this.#isLeaving) return')],
    tests: RUN_TESTS,
  },
  {
    name: 'a cancel before the begin is lost',
    patches: [run('claim.cancel ?? this.#cancelReason', 'claim.cancel')],
    tests: RUN_TESTS,
  },
  {
    name: 'a released claim stays on the list',
    patches: [claims("redis.call('RPOP', KEYS[2])", '')],
    tests: CLAIM_TESTS,
  },
  {
    name: 'a writer of an earlier epoch is let through',
    patches: [scripts("if epoch < tonumber(state[2]) then return 'fenced' end", '')],
    tests: LOG_TESTS,
  },
];
