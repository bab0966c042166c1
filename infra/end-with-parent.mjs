// Preloaded into the parts that `npm start` starts: they end when it was killed and could not stop
// them.
const parent = process.ppid;
setInterval(() => {
  if (process.ppid !== parent) process.kill(process.pid, 'SIGTERM');
}, 1000).unref();
