package cmd

import "testing"

// The heap may be as large as is roomy, or twice what is in use.
func TestPercentOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		inUse uint64
		want  int
	}{{0, 400}, {1 << 20, 400}, {4 << 20, 300}, {6 << 20, 166}, {8 << 20, 100}, {20 << 20, 100}, {1 << 40, 100}} {
		if got := percentOf(c.inUse); got != c.want {
			t.Errorf("%d bytes in use: %d, want %d", c.inUse, got, c.want)
		}
	}
	if inUse() == 0 {
		t.Error("what is in use is not known to the runtime by this name")
	}
}
