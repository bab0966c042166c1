import { HubTransport } from '../../edge/transport/hub-transport.ts';
import { openWorkerd } from '../../infra/workerd-runtime.ts';
import { describeAdmission } from '../support/admission-conformance.ts';
import { describeIdempotency } from '../support/idempotency-conformance.ts';
import { describeJobs } from '../support/jobs-conformance.ts';
import { describeNotices } from '../support/notices-conformance.ts';
import { openRedisHarness } from '../support/redis-harness.ts';
import { describeTransport } from '../support/transport-conformance.ts';

/** The Durable Objects in a real workerd, asked past the Worker. */
const open = (maxQueued = 1024) =>
  openRedisHarness(async (redisUrl) => {
    const bindings = { REDIS_URL: redisUrl, MAX_QUEUED: `${maxQueued}` };
    const workerd = await openWorkerd({ port: 0, hostname: '127.0.0.1', bindings });
    const transport = new HubTransport({ numHubs: 2, send: workerd.sendToHub });
    return Object.assign(transport, { [Symbol.asyncDispose]: workerd[Symbol.asyncDispose] });
  });

describeTransport('HubTransport with workerd', open);
describeAdmission('HubTransport with workerd', open);
describeJobs('HubTransport with workerd', open);
describeNotices('HubTransport with workerd', open);
describeIdempotency('HubTransport with workerd', open);
