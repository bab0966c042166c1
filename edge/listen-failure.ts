/** Why a server cannot listen, in a line for the operator, with what to do. */
export function describeListenFailure(cause: unknown, address: string): string {
  const code = cause instanceof Error && 'code' in cause ? cause.code : null;
  if (code === 'EADDRINUSE') return `${address} is taken; stop what listens there or set PORT`;
  if (code === 'EACCES') return `no permission to listen on ${address}; set PORT to 1024 or more`;
  return `cannot listen on ${address}: ${cause instanceof Error ? cause.message : cause}`;
}
