import { type Mutant, patchesOf } from './mutant.ts';

const REST_TESTS = ['test/worker/speculative/rest.test.ts'];
const COSTS_TESTS = [
  'test/worker/engine/speculation-costs.test.ts',
  'test/worker/speculative/plan-search.test.ts',
];
const BLAME_TESTS = ['test/integration/last-tries.test.ts'];
const OVERDUE_TESTS = ['test/worker/engine/overdue-stream.test.ts'];
const HOLD_TESTS = ['test/worker/engine/engine-holds.test.ts'];

const controller = patchesOf('worker/speculative/controller.ts');
const rest = patchesOf('worker/speculative/rest.ts');
const run = patchesOf('worker/queue/request-run.ts');
const poison = patchesOf('worker/queue/poison.ts');
const scripts = patchesOf('shared/protocol/claim-scripts.ts');
const scheduler = patchesOf('worker/engine/scheduler.ts');
const engine = patchesOf('worker/engine/engine.ts');
const overdue = patchesOf('worker/engine/overdue-stream.ts');

/** Of what speculation costs, and of who is to blame for the death of a worker. */
export const ACCOUNTS: readonly Mutant[] = [
  {
    name: 'losses are forgotten: speculation never rests',
    patches: [
      rest(
        'state.isResting = state.credit <= (state.numToLook > 0 ? -LOOK_DEBT : 0);',
        'state.isResting = false;',
      ),
    ],
    tests: REST_TESTS,
  },
  {
    name: 'a rest never ends',
    patches: [rest('if (state.credit < LOOK_CREDIT) return;', 'return;')],
    tests: REST_TESTS,
  },
  {
    name: 'a look is judged by plain steps of before the rest',
    patches: [rest('if (state.isStale) state.numToTime = TIMED_STEPS;', '')],
    tests: REST_TESTS,
  },
  {
    name: 'proposing costs nothing',
    patches: [rest('Math.min(times(proposingMs), MAX_PROPOSING_TIMES)', '0')],
    tests: REST_TESTS,
  },
  {
    name: 'one slow step is believed whatever it took',
    patches: [rest('Math.min(times(ms - proposingMs), MAX_TIMES)', 'times(ms - proposingMs)')],
    tests: REST_TESTS,
  },
  {
    name: 'a step with side tokens is taken for a plain one',
    patches: [
      {
        file: 'worker/engine/speculator.ts',
        search: 'this.#isDrafted = true;\n    this.#drafteeBySequence.get(sequence)?.takeSide',
        replace: 'this.#drafteeBySequence.get(sequence)?.takeSide',
      },
    ],
    tests: COSTS_TESTS,
  },
  {
    name: 'drafts that never paid are made beside prompts',
    patches: [rest(' || (isMixed && credit < EARNED_CREDIT)', '')],
    tests: REST_TESTS,
  },
  {
    name: 'a step is known by the number of its rows alone',
    patches: [
      controller(
        'this.#costs.knows(layOut(policyRows.map(() => 0)))',
        `this.#costs.knows([
          { numRows: policyRows.length + numOthers, numNewTokens: 1, frozenCapacity: 64 },
        ])`,
      ),
    ],
    tests: COSTS_TESTS,
  },
  {
    name: 'what a sequence did not come to counts as rejected',
    patches: [
      {
        file: 'worker/engine/speculator.ts',
        search: 'Math.min(numDrafted, newTokenIds.length)',
        replace: 'Math.min(numDrafted, numAccepted + 1)',
      },
    ],
    tests: ['test/worker/engine/engine-speculation.test.ts'],
  },
  {
    name: 'side tokens are read in steps that are timed',
    patches: [
      {
        file: 'worker/engine/speculator.ts',
        search: 'if (this.#isPlain) return null;',
        replace: '',
      },
    ],
    tests: COSTS_TESTS,
  },
  {
    name: 'calls that read prompts say what drafts cost',
    patches: [
      {
        file: 'worker/engine/engine.ts',
        search:
          'if (!reads.every(({ read }) => read.numLogits === read.tokenIds.length)) continue;',
        replace: '',
      },
    ],
    tests: COSTS_TESTS,
  },
  {
    name: 'lookups are as long for all rows',
    patches: [
      {
        file: 'worker/speculative/plan-search.ts',
        search: 'const LEAST_RATES = [0, 0.5] as const;',
        replace: 'const LEAST_RATES = [0, 0] as const;',
      },
    ],
    tests: COSTS_TESTS,
  },
  {
    name: 'all suspects are tried at once',
    patches: [run('const isHeld = claim.numClaims > this.#maxEntered;', 'const isHeld = false;')],
    tests: BLAME_TESTS,
  },
  {
    name: 'a request that waits for a row is blamed',
    patches: [scripts('if claims <= tonumber(ARGV[3]) then enter(', 'if claims then enter(')],
    tests: BLAME_TESTS,
  },
  {
    name: 'what a suspect does is not held against it',
    patches: [run('await scripts.enter(this.#id, workerId, epoch)', "'ok'")],
    tests: BLAME_TESTS,
  },
  {
    name: 'a suspect is read before it is its turn',
    patches: [run('const endTry = await lastTries.begin(signal);', 'const endTry = () => {};')],
    tests: BLAME_TESTS,
  },
  {
    name: 'a stream that is overdue stays behind interactive ones',
    patches: [overdue('sequence.isOverdue = isOverdue;', '')],
    tests: OVERDUE_TESTS,
  },
  {
    name: 'a stream that was overdue stays before interactive ones',
    patches: [overdue('this.#change(this.#sequence, false);', '')],
    tests: OVERDUE_TESTS,
  },
  {
    name: 'all streams that are overdue are served at once',
    patches: [overdue('if (this.#sequence !== null) return;', '')],
    tests: OVERDUE_TESTS,
  },
  {
    name: 'the turn of a stream that is gone goes to nobody',
    patches: [overdue('if (this.#sequence === sequence) this.#sequence = null;', '')],
    tests: OVERDUE_TESTS,
  },
  {
    name: 'a held request is read',
    patches: [scheduler('this.#running.filter(({ isHeld }) => !isHeld)', 'this.#running')],
    tests: HOLD_TESTS,
  },
  {
    name: 'a held request is due as soon as it has a row',
    patches: [scheduler('this.#activeOf(this.#running).filter(', 'this.#running.filter(')],
    tests: HOLD_TESTS,
  },
  {
    name: 'an engine that is held up works on',
    patches: [engine('this.#isHeldUp = reads.length === 0;', '')],
    tests: HOLD_TESTS,
  },
  {
    name: 'deaths elsewhere are not weighed',
    patches: [poison('maxClaims + Math.min(others, maxClaims)', 'maxClaims')],
    tests: BLAME_TESTS,
  },
  {
    name: 'a request is blamed for no more than others die',
    patches: [poison('Math.min(others, maxClaims)', 'others')],
    tests: BLAME_TESTS,
  },
];
