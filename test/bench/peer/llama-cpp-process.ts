import {
  getLlama,
  type LlamaContext,
  type LlamaContextSequence,
  LlamaLogLevel,
  type Token,
} from 'node-llama-cpp';
import { invariant } from '../../../shared/assert.ts';
import { answerParent } from '../child.ts';
import type { PeerAnswer, PeerQuestion } from './llama-cpp.ts';

/** A process with one model in llama.cpp: prompts in, times and greedy tokens out. */
const [modelPath = '', threads = '1', contextTokens = '512'] = process.argv.slice(2);
const numThreads = Number(threads);

const llama = await getLlama({
  build: 'never',
  gpu: false,
  maxThreads: numThreads,
  logLevel: LlamaLogLevel.error,
});
const model = await llama.loadModel({ modelPath });
const contextByRows = new Map<number, LlamaContext>();
const sequencesByRows = new Map<number, LlamaContextSequence[]>();

/** As many sequences as rows: one that is made for sixteen would be slower with one. */
async function sequencesFor(numRows: number): Promise<LlamaContextSequence[]> {
  const known = sequencesByRows.get(numRows);
  if (known !== undefined) {
    for (const sequence of known) await sequence.clearHistory();
    return known;
  }
  const context = await model.createContext({
    sequences: numRows,
    contextSize: Number(contextTokens),
    threads: { ideal: numThreads, min: numThreads },
  });
  const sequences = Array.from({ length: numRows }, () => context.getSequence());
  contextByRows.set(numRows, context);
  sequencesByRows.set(numRows, sequences);
  return sequences;
}

async function answer({ prompts, numTokens }: PeerQuestion): Promise<PeerAnswer> {
  const sequences = await sequencesFor(prompts.length);
  const startMs = performance.now();
  const streams = sequences.map((sequence, row) => {
    // Any number is a token to the library's types, which brand it.
    const tokens: Token[] = JSON.parse(JSON.stringify(prompts[row]));
    return sequence.evaluate(tokens, { temperature: 0, yieldEogToken: true });
  });
  const tokenIds: number[][] = prompts.map(() => []);
  const next = async () => {
    const results = await Promise.all(streams.map((stream) => stream.next()));
    for (const [row, { value, done }] of results.entries()) {
      invariant(done !== true && value !== undefined, 'the peer ended early');
      tokenIds[row]?.push(value);
    }
  };
  await next();
  const readMs = performance.now();
  for (let i = 1; i < numTokens; i += 1) await next();
  const endMs = performance.now();
  for (const stream of streams) await stream.return();
  return { prefillMs: readMs - startMs, decodeMs: endMs - readMs, tokenIds };
}

answerParent(answer);
