/**
 * How `npm run batches` starts Node. What a line leaves behind is used up within a second; with the
 * heap growing as it likes, a runner of many lines would come to twice the memory of one of few.
 */
export const BATCH_RUNNER = [
  '--max-semi-space-size=4',
  '--heap-growing-percent=20',
  'edge/batches-node.ts',
] as const;
