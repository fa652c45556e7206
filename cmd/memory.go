package cmd

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// roomyHeap is how large the heap may grow before garbage is collected, however little of it is in use: most runs are over before they
// have used that much, and to collect earlier costs a fifth of their time. Beyond it, it grows to twice what is in use.
const roomyHeap = 16 << 20

// roomy says when this process collects garbage. It is for a process that is one run of imprint.
func roomy() {
	// The least heap at which the runtime collects is 4 MiB at 100.
	debug.SetGCPercent(100 * roomyHeap / (4 << 20))
	adjusting(100 * roomyHeap / (4 << 20))
}

// adjusting looks after each collection what the next should wait for.
func adjusting(now int) {
	runtime.SetFinalizer(&struct{ _ [16]byte }{}, func(any) {
		next := percentOf(inUse())
		if d := next - now; d*d > 100 { // each change stops the world
			debug.SetGCPercent(next)
			now = next
		}
		adjusting(now)
	})
}

// inUse returns how many bytes of the heap the last collection found in use.
func inUse() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return roomyHeap
	}
	return s[0].Value.Uint64()
}

// percentOf returns the growth, in percent of what is in use, at which garbage is to be collected.
func percentOf(inUse uint64) int {
	if inUse*2 >= roomyHeap {
		return 100
	}
	return int(min(100*(roomyHeap-inUse)/max(inUse, 1), 400))
}
