import { type Mutant, patchesOf } from './mutant.ts';

const REST_TESTS = ['test/worker/speculative/rest.test.ts'];
const BLAME_TESTS = ['test/integration/last-tries.test.ts'];

const rest = patchesOf('worker/speculative/rest.ts');
const run = patchesOf('worker/queue/request-run.ts');

/** Of what speculation costs, and of who is to blame for the death of a worker. */
export const ACCOUNTS: readonly Mutant[] = [
  {
    name: 'losses are forgotten: speculation never rests',
    patches: [rest('state.isResting = state.credit <= 0;', 'state.isResting = false;')],
    tests: REST_TESTS,
  },
  {
    name: 'a rest never ends',
    patches: [rest('state.isResting = state.credit < LOOK_CREDIT;', 'state.isResting = true;')],
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
    name: 'drafts that never paid are made beside prompts',
    patches: [rest(' || (isMixed && credit < EARNED_CREDIT)', '')],
    tests: REST_TESTS,
  },
  {
    name: 'all suspects are tried at once',
    patches: [run('Math.max(maxClaims - 1, 1)', 'maxClaims + 1')],
    tests: BLAME_TESTS,
  },
  {
    name: 'deaths elsewhere are not weighed',
    patches: [run('maxClaims + Math.min(others, maxClaims)', 'maxClaims')],
    tests: BLAME_TESTS,
  },
  {
    name: 'a request is blamed for no more than others die',
    patches: [run('Math.min(others, maxClaims)', 'others')],
    tests: BLAME_TESTS,
  },
];
