import { describeAdmission } from '../support/admission-conformance.ts';
import { FakeTransport } from '../support/fake-transport.ts';
import { describeIdempotency } from '../support/idempotency-conformance.ts';
import { describeJobs } from '../support/jobs-conformance.ts';
import {
  describeNotices,
  memoryRecords,
  type NoticesHarness,
} from '../support/notices-conformance.ts';
import { describeTransport } from '../support/transport-conformance.ts';

async function open(maxQueued?: number): Promise<NoticesHarness> {
  const transport = new FakeTransport();
  if (maxQueued !== undefined) transport.maxQueued = maxQueued;
  return {
    transport,
    register: async (card, files, ratePerSecond = 0) => {
      transport.register(card, files);
      transport.setRate(card, ratePerSecond);
    },
    claim: async (id) => transport.claim(id),
    append: async (id, epoch, events) => {
      for (const event of events) transport.append(id, epoch, event);
    },
    records: memoryRecords(transport.notices),
    [Symbol.asyncDispose]: async () => {},
  };
}

describeTransport('FakeTransport', open);
describeAdmission('FakeTransport', open);
describeJobs('FakeTransport', open);
describeNotices('FakeTransport', open);
describeIdempotency('FakeTransport', open);
