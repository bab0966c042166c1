import { openRedisTransport } from '../../edge/transport/redis-transport.ts';
import { describeIdempotency } from '../support/idempotency-conformance.ts';
import { openRedisHarness } from '../support/redis-harness.ts';

describeIdempotency('RedisTransport', () => openRedisHarness((url) => openRedisTransport(url)));
