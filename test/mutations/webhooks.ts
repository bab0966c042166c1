import { type Mutant, patchesOf } from './mutant.ts';

const UNIT_TESTS = [
  'test/worker/webhooks/send.test.ts',
  'test/worker/webhooks/endpoint.test.ts',
  'test/worker/webhooks/retry-schedule.test.ts',
  'test/worker/webhooks/signature.test.ts',
];
const TESTS = ['test/integration/webhooks.test.ts', 'test/integration/webhook-retries.test.ts'];

const send = patchesOf('worker/webhooks/send.ts');
const target = patchesOf('worker/webhooks/target.ts');
const endpoint = patchesOf('worker/webhooks/endpoint.ts');
const notices = patchesOf('worker/webhooks/request-notices.ts');
const handOver = patchesOf('worker/webhooks/hand-over.ts');
const consumer = patchesOf('worker/webhooks/delivery-consumer.ts');
const scripts = patchesOf('shared/protocol/scripts.ts');
const outcome = patchesOf('shared/openai/outcome.ts');

export const WEBHOOKS: readonly Mutant[] = [
  {
    name: 'a name is looked up again when its address is connected to',
    patches: [send('lookup: lookupIn(addresses),', '')],
    tests: UNIT_TESTS,
  },
  {
    name: 'only the first address of a name is checked',
    patches: [target('found.find(', 'found.slice(0, 1).find(')],
    tests: UNIT_TESTS,
  },
  {
    name: 'an attempt has no end',
    patches: [
      send(
        'AbortSignal.timeout(options.timeoutMs)',
        'AbortSignal.timeout(100 * options.timeoutMs)',
      ),
    ],
    tests: UNIT_TESTS,
  },
  {
    name: 'a breaker that is half open lets everybody in',
    patches: [endpoint('if (isProbe && this.#isProbing) return', 'if (false) return')],
    tests: UNIT_TESTS,
  },
  {
    name: 'one endpoint may take all places',
    patches: [endpoint('Math.min(maxConcurrent, maxRunning)', 'maxRunning')],
    tests: UNIT_TESTS,
  },
  {
    name: 'each path of a host is an endpoint',
    patches: [endpoint('new URL(url).origin', 'url')],
    tests: TESTS,
  },
  {
    name: 'one tenant may take all places',
    patches: [endpoint('numOfTenant < Math.max(1, Math.floor(numFree / 2))', 'true')],
    tests: UNIT_TESTS,
  },
  {
    name: 'a notice counts as handed over before it is',
    patches: [
      notices(
        'await handOver(this.#toNotice(id, job, entry), this.#context);\n    await runScript(host, HAND_OVER, [state, log, claims, outbox], [entry.n + 1]);',
        'await runScript(host, HAND_OVER, [state, log, claims, outbox], [entry.n + 1]);\n    await new Promise((resolve) => setTimeout(resolve, 20));\n    await handOver(this.#toNotice(id, job, entry), this.#context);',
      ),
    ],
    tests: TESTS,
  },
  {
    name: 'a request that has ended stays pending',
    patches: [
      notices('if (isOver) await client.zrem(keys.pendingJobs, id);', 'if (isOver) return null;'),
    ],
    tests: TESTS,
  },
  {
    name: 'everybody is told everything',
    patches: [
      handOver('!webhook.events.some((event) => event === type)', 'webhook.events.length === 0'),
    ],
    tests: TESTS,
  },
  {
    name: 'an endpoint that is gone is tried again',
    patches: [consumer('if (status === 410)', 'if (status === 411)')],
    tests: TESTS,
  },
  {
    name: 'a receiver may ask for time in vain',
    patches: [consumer('parseRetryAfter(retryAfter, Date.now())', 'null')],
    tests: TESTS,
  },
  {
    name: 'what no secret is known for goes out all the same',
    patches: [consumer('(tenant) ?? []', "(tenant) ?? ['whsec_']")],
    tests: TESTS,
  },
  {
    name: 'a request expires before anybody was told of its end',
    patches: [scripts("if redis.call('EXISTS', outboxKey) == 1 then", 'if false then')],
    tests: TESTS,
  },
  {
    name: 'the tail of a cut log is given for the whole answer',
    patches: [outcome('this.isWhole = logged.id.seq === 0;', 'this.isWhole = true;')],
    tests: ['test/integration/trimmed-jobs.test.ts'],
  },
  {
    name: 'a delivery that is given up is not listed',
    patches: [
      consumer(
        'await records.addDeadLetter(delivery, { numAttempts, status, error }, Date.now());',
        '',
      ),
    ],
    tests: TESTS,
  },
];
