// Socket.IO with its Redis streams adapter: workers write into the adapter's stream.
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/redis-streams-adapter");
const Redis = require("ioredis");

const [port, redisPort] = process.argv.slice(2).map(Number);
const redis = new (Redis.default ?? Redis)({ port: redisPort });
const io = new Server({
  transports: ["websocket"], perMessageDeflate: false, httpCompression: false,
  adapter: createAdapter(redis, { onlyPlaintext: true, readCount: 1000 }),
});
io.on("connection", (socket) => {
  socket.on("subscribe", (jobs) => {
    socket.join(jobs);
    socket.emit("subscribed");
  });
});
io.listen(port);
