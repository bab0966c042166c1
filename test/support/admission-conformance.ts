import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Transport } from '../../edge/transport/transport.ts';
import type { Job } from '../../shared/protocol/job.ts';
import { storiesCard, storiesFiles } from './stories.ts';
import { jobOf, type TransportHarness } from './transport-conformance.ts';

const never = new AbortController().signal;
const MAX_QUEUED = 3;

function withTimeout(seconds: number): Pick<Job, 'createdMs' | 'deadlineMs'> {
  const createdMs = Date.now();
  return { createdMs, deadlineMs: createdMs + 1000 * seconds };
}

/**
 * Whom every transport must refuse, and when it says to come back. Nobody takes anything off the
 * queues.
 */
export function describeAdmission(
  name: string,
  open: (maxQueued: number) => Promise<TransportHarness>,
): void {
  describe(`${name} admits requests so that it`, () => {
    let harness: TransportHarness;
    let transport: Transport;
    let numQueues = 0;

    beforeAll(async () => {
      harness = await open(MAX_QUEUED);
      transport = harness.transport;
    });
    afterAll(() => harness[Symbol.asyncDispose]());

    /**
     * A queue of its own whose workers finish so many requests a second, with `numQueued` requests
     * in it.
     */
    async function fill(numQueued: number, ratePerSecond = 0) {
      numQueues += 1;
      const fingerprint = `queue-${numQueues}`;
      await harness.register({ ...storiesCard, fingerprint }, storiesFiles, ratePerSecond);
      const submit = async (fields: Partial<Job> = {}) => {
        const job = jobOf({ fingerprint, ...fields });
        await transport.submit(job, never);
        return job;
      };
      const jobs: Job[] = [];
      while (jobs.length < numQueued) jobs.push(await submit());
      return { submit, jobs };
    }

    it('refuses what finds no room, for as long as it takes to finish one', async () => {
      const { submit, jobs } = await fill(MAX_QUEUED, 0.3);
      const late = jobOf({ fingerprint: jobs[0]!.fingerprint });

      await expect(transport.submit(late, never)).rejects.toMatchObject({
        code: 'rate_limit_exceeded',
        retryAfterSeconds: 4, // 1 / 0.3, rounded up
      });
      expect(await transport.request(late.id)).toBeNull();
      await expect(submit({ priority: 1 })).rejects.toMatchObject({ code: 'rate_limit_exceeded' });
    });

    it('does not say when, where nothing is measured', async () => {
      const { submit } = await fill(MAX_QUEUED);
      await expect(submit()).rejects.toMatchObject({
        code: 'rate_limit_exceeded',
        retryAfterSeconds: null,
      });
    });

    it('has room again after a cancel', async () => {
      const { submit, jobs } = await fill(MAX_QUEUED);
      await transport.cancel(jobs[1]!.id);

      await expect(submit()).resolves.toBeDefined();
      await expect(submit()).rejects.toMatchObject({ code: 'rate_limit_exceeded' });
    });

    it('counts each queue by itself', async () => {
      await fill(MAX_QUEUED);
      await expect(fill(1)).resolves.toBeDefined();
    });

    it('refuses at once whose deadline would pass while others are served', async () => {
      const { submit } = await fill(2, 0.25); // they take 8 s

      await expect(submit(withTimeout(7.9))).rejects.toMatchObject({
        code: 'deadline_exceeded',
        param: 'timeout',
        retryAfterSeconds: 1,
      });
      await expect(submit(withTimeout(5))).rejects.toMatchObject({ retryAfterSeconds: 3 });
      await expect(submit(withTimeout(8))).resolves.toBeDefined();
    });

    it('counts only those who go first', async () => {
      const { submit } = await fill(2, 0.25);

      await expect(submit({ ...withTimeout(1), priority: 1001 })).rejects.toMatchObject({
        code: 'deadline_exceeded',
      });
      await expect(submit({ ...withTimeout(1), priority: 999 })).resolves.toBeDefined();
    });

    it('lets a short deadline try where nothing is measured', async () => {
      const { submit } = await fill(2);
      await expect(submit(withTimeout(1))).resolves.toBeDefined();
    });

    it('never refuses what it has admitted before', async () => {
      const { submit, jobs } = await fill(MAX_QUEUED - 1, 1000);
      const job = await submit(withTimeout(1));
      const [events] = await Promise.all([
        transport.submit(job, never),
        transport.submit(jobs[0]!, never),
      ]);

      await transport.cancel(job.id);
      const types: string[] = [];
      for await (const { event } of events) types.push(event.type);
      expect(types).toEqual(['tokens', 'done']);
    });
  });
}
