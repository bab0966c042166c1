import { describe, expect, it } from 'vitest';
import { createLog } from '../../../worker/telemetry/log.ts';
import { Metrics } from '../../../worker/telemetry/metrics.ts';
import { serveMetrics } from '../../../worker/telemetry/metrics-server.ts';
import { jobOf } from '../../support/jobs.ts';
import { ScriptedGenerator } from '../../support/scripted-generator.ts';

describe('Metrics', () => {
  it('times the first token apart from the others, and counts tokens at the end', async () => {
    const metrics = new Metrics({ model: 'm' });
    const generator = new ScriptedGenerator('by-hand');
    let nowMs = 0;
    const measured = metrics.measuring(generator, () => nowMs);
    measured.start(jobOf({ maxTokens: 3 }), { choices: [] }, () => undefined);
    for (const ms of [200, 2, 2]) {
      nowMs += ms;
      generator.step();
    }

    const text = await metrics.registry.metrics();
    expect(text).toContain('rivulet_first_token_seconds_sum{model="m"} 0.2\n');
    expect(text).toContain('rivulet_token_gap_seconds_sum{model="m"} 0.004\n');
    expect(text).toContain('rivulet_tokens_total{kind="output",model="m"} 3\n');
  });

  it('counts events that the log does not show', async () => {
    const metrics = new Metrics({});
    metrics.countingLog(createLog('silent')).warn('consumer_reopened');

    const text = await metrics.registry.metrics();
    expect(text).toContain('rivulet_events_total{event="consumer_reopened"} 1\n');
  });
});

describe('serveMetrics', () => {
  it('serves them at /metrics and nothing elsewhere', async () => {
    const metrics = new Metrics({});
    metrics.addGauge({ name: 'rivulet_requests_running', help: 'running' }, () => 7);
    await using server = await serveMetrics(metrics.registry, 0);

    const answer = await fetch(`http://127.0.0.1:${server.port}/metrics`);
    expect(await answer.text()).toContain('rivulet_requests_running 7\n');
    expect((await fetch(`http://127.0.0.1:${server.port}/`)).status).toBe(404);
  });

  it('says which setting to change when the port is taken', async () => {
    await using server = await serveMetrics(new Metrics({}).registry, 0);
    await expect(serveMetrics(new Metrics({}).registry, server.port)).rejects.toThrow(
      'METRICS_PORT',
    );
  });
});
