import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HubTransport } from '../../edge/transport/hub-transport.ts';
import { openWorkerd, type Workerd } from '../../infra/workerd-runtime.ts';
import { jobOf } from '../support/jobs.ts';
import { openTestCluster } from '../support/redis-cluster.ts';
import { ScriptedGenerator, scriptedText } from '../support/scripted-generator.ts';
import { openTestWorker, readAll } from '../support/workers.ts';

const never = new AbortController().signal;

describe('on a cluster of three nodes, through hubs in workerd', () => {
  let cluster: Awaited<ReturnType<typeof openTestCluster>>;
  let workerd: Workerd;

  beforeAll(async () => {
    cluster = await openTestCluster();
    const bindings = { REDIS_URL: cluster.url };
    workerd = await openWorkerd({ port: 0, hostname: '127.0.0.1', bindings });
  });
  afterAll(async () => {
    await workerd[Symbol.asyncDispose]();
    await cluster[Symbol.asyncDispose]();
  });

  it('requests go their whole way, wherever their keys are', async () => {
    const transport = new HubTransport({ numHubs: 2, send: workerd.sendToHub });
    await using _worker = await openTestWorker(cluster.url, new ScriptedGenerator());
    const jobs = Array.from({ length: 24 }, () => jobOf());
    const results = await Promise.all(
      jobs.map(async (job) => readAll(await transport.submit(job, never))),
    );

    expect(results.map(({ texts }) => texts[0])).toEqual(jobs.map((job) => scriptedText(job)));
    const [job] = jobs;
    expect(await readAll(await transport.open(job!.id, null, never))).toEqual(results[0]);
  });
});
