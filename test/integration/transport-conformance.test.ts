import { openRedisTransport } from '../../edge/transport/redis-transport.ts';
import { describeAdmission } from '../support/admission-conformance.ts';
import { describeJobs } from '../support/jobs-conformance.ts';
import { describeNotices } from '../support/notices-conformance.ts';
import { openRedisHarness } from '../support/redis-harness.ts';
import { describeTransport } from '../support/transport-conformance.ts';

const open = (maxQueued = 1024) =>
  openRedisHarness((url) => openRedisTransport(url, { maxQueued }));

describeTransport('RedisTransport', open);
describeAdmission('RedisTransport', open);
describeJobs('RedisTransport', open);
describeNotices('RedisTransport', open);
