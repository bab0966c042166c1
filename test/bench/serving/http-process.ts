import { Agent, request as httpRequest } from 'node:http';
import { z } from 'zod';
import { answerParent } from '../child.ts';
import { putLoad, type Send } from './load.ts';
import type { LoadPlan } from './plan.ts';

/**
 * The load generator, in a process of its own. It reads as little as it can, since it shares the
 * cores with what it measures: frames are counted, and only the last is parsed.
 */
const [url = '', model = ''] = process.argv.slice(2);
const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });
const usageSchema = z.object({ usage: z.object({ completion_tokens: z.int() }) });

const FRAME = Buffer.from('data: ');
const FRAME_END = Buffer.from('\n\n');

const send: Send = (planned, onEvent) => {
  const body = JSON.stringify({
    model,
    prompt: planned.promptTokenIds,
    max_tokens: planned.numTokens,
    seed: planned.seed,
    temperature: 0.8,
    top_p: 0.95,
    ignore_eos: true,
    speculation: 'off',
    stream: true,
    stream_options: { include_usage: true },
  });
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const outgoing = httpRequest(`${url}/v1/completions`, {
    method: 'POST',
    agent,
    headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
  });
  outgoing.on('error', reject);
  outgoing.on('response', (response) => {
    const frames = new Frames();
    response.on('data', (data: Buffer) => {
      const numText = frames.push(data);
      for (let i = 0; i < numText; i += 1) onEvent();
    });
    response.on('error', reject);
    response.on('end', () => {
      const usage = usageSchema.safeParse(frames.lastJson());
      if (response.statusCode === 200 && usage.success) resolve(usage.data.usage.completion_tokens);
      else reject(new Error(`status ${response.statusCode}: ${frames.rest.slice(0, 300)}`));
    });
  });
  outgoing.end(body);
  return promise;
};

/** Counts frames of text: the last two are usage and the end. */
class Frames {
  #rest: Buffer = Buffer.alloc(0);
  /** The latest whole frames: those that are not text are among the last three. */
  #latest: Buffer[] = [];

  /** @returns how many frames of text are new */
  push(data: Buffer): number {
    let bytes = this.#rest.length === 0 ? data : Buffer.concat([this.#rest, data]);
    let numText = 0;
    for (let end = bytes.indexOf(FRAME_END); end >= 0; end = bytes.indexOf(FRAME_END)) {
      const frame = bytes.subarray(0, end);
      bytes = bytes.subarray(end + FRAME_END.length);
      if (frame.indexOf(FRAME) < 0) continue; // a comment
      this.#latest = [...this.#latest.slice(-2), frame];
      if (isText(frame)) numText += 1;
    }
    this.#rest = bytes;
    return numText;
  }

  get rest(): string {
    return [...this.#latest, this.#rest].map(String).join('\n');
  }

  lastJson(): unknown {
    for (const frame of this.#latest.toReversed()) {
      const text = frame.subarray(frame.indexOf(FRAME) + FRAME.length).toString();
      if (text.startsWith('{') && text.includes('"completion_tokens"')) return JSON.parse(text);
    }
    return null;
  }
}

function isText(frame: Buffer): boolean {
  return frame.indexOf('"choices":[{') >= 0;
}

answerParent((plan: LoadPlan) => putLoad(plan, send));
