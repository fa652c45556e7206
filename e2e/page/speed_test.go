package page

import (
	"fmt"
	"testing"
	"time"

	"github.com/imprint-oci/imprint/cmd/ui"
)

// TestPageSpeed reports what 5,000 signatures cost; the bounds are what a busy machine may take.
func TestPageSpeed(t *testing.T) {
	b := chromium(t)
	begun := time.Now()
	url, size := written(t, large())
	made := time.Since(begun)
	p := b.tab(t, view{width: 1400})
	p.open(url)
	p.ready()
	var paint, script float64
	p.eval(`performance.getEntriesByName("first-contentful-paint")[0].startTime`, &paint)
	p.eval(`performance.now()`, &script)
	t.Logf("%d signatures: %d bytes, written in %s; first paint after %.0f ms, controls before %.0f ms", many, size, made.Round(time.Millisecond), paint, script)
	if size > 2_500_000 {
		t.Errorf("the page has %d bytes", size)
	}
	if paint > 3000 {
		t.Errorf("first paint after %.0f ms", paint)
	}
	slowest := 0.0
	for _, act := range []string{
		`q.value = "payments"; q.dispatchEvent(new Event("input", {bubbles: true}))`,
		`q.value = ""; q.dispatchEvent(new Event("input", {bubbles: true}))`,
		`state.value = "expiring"; state.dispatchEvent(new Event("input", {bubbles: true}))`,
		`state.value = ""; state.dispatchEvent(new Event("input", {bubbles: true}))`,
		`heads[1].click()`, `heads[2].click()`, `heads[3].click()`, `heads[0].click()`,
	} {
		var ms float64
		// From the act to after the next frame is on the screen.
		p.eval(fmt.Sprintf(`(async () => {
			const q = document.getElementById("q"), state = document.getElementById("state"), heads = document.querySelectorAll("#rows th button");
			await new Promise(requestAnimationFrame);
			const begun = performance.now();
			%s;
			await new Promise(done => requestAnimationFrame(() => { const c = new MessageChannel(); c.port1.onmessage = done; c.port2.postMessage(0) }));
			return performance.now() - begun;
		})()`, act), &ms)
		t.Logf("%4.0f ms  %.60s", ms, act)
		slowest = max(slowest, ms)
	}
	if slowest > 1000 {
		t.Errorf("a filter takes %.0f ms", slowest)
	}
	p.quiet(url)
}

// BenchmarkPage: what writing the page of 5,000 signatures takes.
func BenchmarkPage(b *testing.B) {
	r := large()
	b.ReportAllocs()
	for b.Loop() {
		if err := ui.Page(discard{}, r); err != nil {
			b.Fatal(err)
		}
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
