import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { JobStore } from '../../edge/transport/jobs.ts';
import type { NoticeStore } from '../../edge/transport/notices.ts';
import { createRequestId, type TenantId, toTenantId } from '../../shared/ids.ts';
import type { DeadLetter, DeliveryAttempt, ListedNotice } from '../../shared/protocol/webhook.ts';
import type { MemoryNotices } from './memory-notices.ts';
import { storiesCard, storiesFiles } from './stories.ts';
import { jobOf, type TransportHarness } from './transport-conformance.ts';

/** What the process that delivers webhooks leaves behind, in the test's hand. */
export interface WebhookRecords {
  addAttempt(subject: string, attempt: DeliveryAttempt): Promise<void>;
  addDeadLetter(tenant: TenantId, letter: DeadLetter): Promise<void>;
  removeDeadLetter(tenant: TenantId, webhookId: string): Promise<void>;
  addNotice(tenant: TenantId, notice: ListedNotice): Promise<void>;
  /** Forgets the oldest notices of a tenant. */
  trimNotices(tenant: TenantId, numTrimmed: number): Promise<void>;
  /** Webhook ids that are to be sent once more, one for each nonce. */
  redeliveries(): Promise<string[]>;
}

export interface NoticesHarness extends TransportHarness {
  readonly records: WebhookRecords;
}

/** Of notices in memory. */
export function memoryRecords(notices: MemoryNotices): WebhookRecords {
  return {
    addAttempt: async (subject, attempt) => notices.addAttempt(subject, attempt),
    addDeadLetter: async (tenant, letter) => notices.addDeadLetter(tenant, letter),
    removeDeadLetter: async (tenant, webhookId) => notices.removeDeadLetter(tenant, webhookId),
    addNotice: async (tenant, notice) => notices.addNotice(tenant, notice),
    async trimNotices(_, numTrimmed) {
      notices.numTrimmed = numTrimmed;
    },
    redeliveries: async () => [...notices.redeliveries],
  };
}

const url = 'https://example.com/hook';
const webhook = { url, events: ['job.queued'], payload: 'thin' } as const;
const failed = { status: null, error: 'timed out', durationMs: 15_000, answer: '', atMs: 5 };
const taken = { ...failed, status: 204, error: null };

let numTenants = 0;

function newTenant(): TenantId {
  numTenants += 1;
  return toTenantId(`told-${numTenants}`);
}

function letterOf(n: number, atMs = n): DeadLetter {
  const about = { requestId: createRequestId(), type: 'job.failed', url };
  return { webhookId: `msg_${n}`, atMs, numAttempts: 9, status: 500, error: null, ...about };
}

/** What every transport must do for those who are told, and for those who missed it. */
export function describeNotices(name: string, open: () => Promise<NoticesHarness>): void {
  describe(`${name} keeps notices, and`, () => {
    let harness: NoticesHarness;
    let notices: NoticeStore;
    let jobs: JobStore;

    beforeAll(async () => {
      harness = await open();
      ({ notices, jobs } = harness.transport);
      await harness.register(storiesCard, storiesFiles);
    });
    afterAll(() => harness?.[Symbol.asyncDispose]());

    it('shows the attempts to tell of a job, and has one made again', async () => {
      const job = jobOf({ background: true, webhook: { ...webhook, events: ['job.queued'] } });
      await jobs.enqueue(job);
      const missed: DeliveryAttempt = {
        webhookId: `msg_${job.id}_o3`,
        type: 'job.output',
        ...failed,
      };
      const heard: DeliveryAttempt = { ...missed, webhookId: `msg_${job.id}_o2`, ...taken };
      for (const attempt of [heard, missed]) await harness.records.addAttempt(job.id, attempt);

      expect(await notices.attempts(job.id)).toEqual([heard, missed]);
      const resend = (webhookId: string, nonce: string) =>
        notices.resend({ type: 'job', job, webhookId }, nonce);
      expect(await resend(missed.webhookId, 'a')).toBe('accepted');
      expect(await resend(missed.webhookId, 'a')).toBe('accepted'); // sent again
      expect(await resend(`msg_${job.id}_0`, 'b')).toBe('accepted');
      expect(await resend(heard.webhookId, 'c')).toBe('taken'); // nobody has it any longer
      for (const n of ['1', '7', 'o4', 'x']) {
        expect(await resend(`msg_${job.id}_${n}`, n)).toBe('unknown');
      }
      expect(await resend(`msg_${createRequestId()}_0`, 'd')).toBe('unknown');
      const again = await harness.records.redeliveries();
      expect(again).toEqual([missed.webhookId, `msg_${job.id}_0`]);
    });

    it('has a dead letter sent again for its tenant, though its request is unknown', async () => {
      const [tenant, other] = [newTenant(), newTenant()];
      const letter = { ...letterOf(1), webhookId: `msg_${createRequestId()}_2` };
      await harness.records.addDeadLetter(tenant, letter);
      const { webhookId } = letter;

      expect(await notices.deadLetter(tenant, webhookId)).toEqual(letter);
      expect(await notices.deadLetter(other, webhookId)).toBeNull();
      const before = await harness.records.redeliveries();
      const resend = (of: TenantId) =>
        notices.resend({ type: 'letter', tenant: of, webhookId }, `of-${of}`);
      expect(await resend(other)).toBe('unknown');
      expect(await resend(tenant)).toBe('accepted');
      expect(await harness.records.redeliveries()).toEqual([...before, webhookId]);
    });

    it('pages through dead letters, latest first, while they are repaired', async () => {
      const tenant = newTenant();
      const nowMs = Date.now();
      // Three of them of one millisecond.
      const letters = [1, 2, 3, 4, 5].map((n) => letterOf(n, nowMs + Math.max(n - 3, 0)));
      for (const letter of letters) await harness.records.addDeadLetter(tenant, letter);

      const [first, second, third, fourth, fifth] = letters;
      const page = (after: DeadLetter | null, limit = 2) =>
        notices.deadLetters({ tenant, after, limit });
      expect(await page(null)).toEqual([fifth, fourth]);
      expect(await page(fourth!)).toEqual([third, second]);
      for (const { webhookId } of [fourth!, second!]) {
        await harness.records.removeDeadLetter(tenant, webhookId);
      }
      expect(await page(fourth!)).toEqual([third, first]);
      expect(await page(second!)).toEqual([first]);
      expect(await notices.deadLetters({ tenant: newTenant(), after: null, limit: 2 })).toEqual([]);
    });

    it('pages through notices, oldest first, from any cursor on, and says what is missing', async () => {
      const tenant = newTenant();
      const told = [1, 2, 3, 4, 5].map((n): ListedNotice => {
        const data = { id: `job-${n}`, nested: { n } };
        return { webhookId: `msg_${n}`, requestId: `job-${n}`, type: 'job.failed', atMs: n, data };
      });
      for (const notice of told) await harness.records.addNotice(tenant, notice);
      const page = async (after: string | null, limit = 2) => {
        const entries = await notices.list({ tenant, after, limit });
        return { found: entries.map(({ notice }) => notice), next: entries.at(-1)?.cursor ?? null };
      };

      const first = await page(null);
      expect(first.found).toEqual(told.slice(0, 2));
      const second = await page(first.next, 10);
      expect(second.found).toEqual(told.slice(2));
      expect((await page(second.next)).found).toEqual([]);
      await expect(page('x')).rejects.toMatchObject({ code: 'invalid_request', param: 'after' });

      await harness.records.trimNotices(tenant, 3);
      const missing = await page(first.next).catch((error: unknown) => error);
      expect(missing).toMatchObject({ code: 'events_trimmed', param: 'after' });
      const named = /after=(\d+-\d+)/.exec(String(missing))?.[1] ?? '';
      expect((await page(named)).found).toEqual(told.slice(3));
      expect((await page(null)).found).toEqual(told.slice(3));
      expect((await page(second.next)).found).toEqual([]);
    });
  });
}
