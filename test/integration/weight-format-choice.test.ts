import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Keys } from '../../shared/protocol/keys.ts';
import { loadConfig } from '../../worker/config.ts';
import { chooseFormat } from '../../worker/model/choose-format.ts';
import { processorClass } from '../../worker/model/processor.ts';
import { settleWeightFormat } from '../../worker/weight-format.ts';
import { openTestRedis, type TestRedis } from '../support/redis.ts';

const keys = new Keys('test');
const modelDir = join(import.meta.dirname, '../../infra/models/stories-draft');
let redis: TestRedis;
let cacheDir: string;

beforeAll(async () => {
  redis = await openTestRedis();
});
afterAll(() => redis[Symbol.asyncDispose]());

beforeEach(async () => {
  cacheDir = mkdtempSync(join(tmpdir(), 'rivulet-'));
  await redis.client.flushall();
  return () => rmSync(cacheDir, { recursive: true });
});

function modelConfig(weightFormat: string) {
  const environment = { REDIS_URL: redis.url, MODEL_DIR: modelDir, CACHE_DIR: cacheDir };
  return loadConfig({ ...environment, NUM_THREADS: '1', WEIGHT_FORMAT: weightFormat }).model;
}

const settle = (weightFormat: string) =>
  settleWeightFormat(modelConfig(weightFormat), redis.client, keys);

describe('chooseFormat', () => {
  it('remembers what it measured, and measures again where that is damaged', async () => {
    const choice = await chooseFormat(modelConfig('auto'));
    const formats = join(cacheDir, 'formats');
    const [name = ''] = readdirSync(formats);
    const written = JSON.parse(readFileSync(join(formats, name), 'utf8'));

    expect(written.weightFormat).toBe(choice);
    expect(Object.keys(written.milliseconds)).toEqual(['fp32', 'int8', 'q8']);
    const other = choice === 'q8' ? 'int8' : 'q8';
    writeFileSync(join(formats, name), JSON.stringify({ weightFormat: other }));
    expect(await chooseFormat(modelConfig('auto'))).toBe(other);
    writeFileSync(join(formats, name), '{"weightFormat":');
    await chooseFormat(modelConfig('auto'));
    expect(JSON.parse(readFileSync(join(formats, name), 'utf8')).calls).toHaveLength(3);
    expect(readdirSync(formats)).toEqual([name]);
  });
});

describe('settleWeightFormat', () => {
  it('takes what the operator chose', async () => {
    expect(await settle('q4')).toBe('q4');
    expect(await redis.client.keys('*')).toEqual([]);
  });

  it('takes what the first worker of the model measured', async () => {
    const first = await settle('auto');
    const settings = await redis.client.hgetall(keys.autoSettings);
    const [field = ''] = Object.keys(settings);
    expect(settings).toEqual({ [field]: first });
    expect(field).toMatch(/^stories-draft:weight_format_cpu_[0-9a-f]{16}_/);
    expect(field.endsWith(processorClass())).toBe(true);

    const other = first === 'q8' ? 'int8' : 'q8';
    await redis.client.hset(keys.autoSettings, field, other);
    expect(await settle('auto')).toBe(other);
  });

  it('gives workers that start together one answer', async () => {
    const formats = await Promise.all([settle('auto'), settle('auto')]);

    expect(formats[0]).toBe(formats[1]);
    expect(await redis.client.hvals(keys.autoSettings)).toEqual([formats[0]]);
  });

  it('fails with the reason where the model cannot be read', async () => {
    const model = { ...modelConfig('auto'), modelDir: cacheDir };

    await expect(settleWeightFormat(model, redis.client, keys)).rejects.toThrow('config.json');
  });
});
