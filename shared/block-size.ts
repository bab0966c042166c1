/** Positions per cache block. A chunk stays within one, so that sums never depend on chunking. */
export const BLOCK_SIZE = 64;
