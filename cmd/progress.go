package cmd

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/copy"
)

const (
	frameEvery = 100 * time.Millisecond // at most so often a terminal is redrawn
	quietFor   = 300 * time.Millisecond // what is over sooner is not drawn at all
	beatAfter  = 10 * time.Second       // of silence a log gets a line that it goes on
	slowAfter  = 2 * time.Second        // an object that takes longer gets a bar, however small
	largeBlob  = 8 << 20                // and so does one of this size, at once
)

// A progress tells a person on standard error how copies go on; nil tells nobody. On a terminal it draws below what was said, and is
// wiped away before anything else is said; elsewhere it says each object that travelled, and now and then how far it is.
//
// Events only take notes: no copy waits for a terminal. What is noted is written by one goroutine, and by whoever says something
// else in between, so that a line about an object never follows the answer that it belongs to.
type progress struct {
	s        *session
	now      func() time.Time
	terminal bool

	stop    chan struct{}
	stopped sync.WaitGroup

	mu       sync.Mutex
	began    time.Time
	of, over int // items
	items    []*underway
	rest     amounts // of items that are over
	meter    speed
	lines    []string  // that are to be written
	said     time.Time // when something was said last
	drawn    []string  // the lines that stand on the terminal
	ended    bool
}

// Amounts of bytes: what has travelled, what is done with, and what there is in all.
type amounts struct{ sent, covered, total int64 }

// An underway is an item that is under way.
type underway struct {
	name    string
	amounts // of objects that are there
	moving  []*moving
}

// A moving is an object that travels.
type moving struct {
	digest     digest.Digest
	size, sent int64
	since      time.Time
}

// newProgress begins to tell how what follows goes on: nil, nobody, with --quiet or -o json.
func (s *session) newProgress() *progress {
	if s.quiet || s.json {
		return nil
	}
	p := s.progressAt(s.env.Now)
	p.stopped.Go(p.run)
	return p
}

// progressAt is a progress by the clock now that somebody else moves on.
func (s *session) progressAt(now func() time.Time) *progress {
	p := &progress{s: s, now: now, stop: make(chan struct{}), terminal: s.env.Terminal.Err && s.env.Getenv("TERM") != "dumb"}
	p.began, p.said = now(), now()
	s.mu.Lock()
	s.progress = p
	s.mu.Unlock()
	return p
}

// expect says how many items there are going to be.
func (p *progress) expect(items int) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of = items
}

// item returns who is told of the steps of one item, nil if nobody is. name is what a person calls it: its destination.
func (p *progress) item(name string) func(copy.Event) {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	u := &underway{name: redact(name)}
	p.items = append(p.items, u)
	return func(e copy.Event) { p.note(u, e) }
}

// done says that an item is over, however it ended: what of it was under way is shown no more.
func (p *progress) done(name string) {
	if p == nil {
		return
	}
	name = redact(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.items, func(u *underway) bool { return u.name == name })
	if i < 0 {
		return
	}
	u := p.items[i]
	p.items = slices.Delete(p.items, i, i+1)
	for _, m := range u.moving {
		u.sent += m.sent
	}
	p.over++
	p.rest.sent += u.sent
	p.rest.covered += u.covered
	p.rest.total += u.covered // what is over has nothing left to do
}

// end says that all items are over.
func (p *progress) end() {
	if p == nil {
		return
	}
	close(p.stop)
	p.stopped.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.write()
	p.wipe()
	p.ended = true
}

// run writes what was noted.
func (p *progress) run() {
	every := frameEvery
	if !p.terminal {
		every *= 2
	}
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
			p.tick()
		case <-p.stop:
			return
		}
	}
}

// tick writes the lines that wait, and draws or says how far it is when it is time to.
func (p *progress) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.write()
	now := p.now()
	switch {
	case p.terminal && now.Sub(p.began) >= quietFor:
		p.draw(now)
	case !p.terminal && now.Sub(p.said) >= beatAfter:
		p.say(ui.ProgressLine(p.view(now)))
	}
}

// aside says something else: what write writes to a terminal or a log.
func (p *progress) aside(write func()) {
	if p == nil {
		write()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.write()
	p.wipe()
	write()
	p.said = p.now()
}

// note takes down one step of an item.
func (p *progress) note(u *underway, e copy.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(u.moving, func(m *moving) bool { return m.digest == e.Descriptor.Digest })
	switch e.Kind {
	case copy.EventPlan:
		u.total = e.Bytes
	case copy.EventBegin:
		if i < 0 {
			u.moving = append(u.moving, &moving{digest: e.Descriptor.Digest, size: e.Descriptor.Size, since: p.now()})
		}
	case copy.EventBytes:
		if i >= 0 {
			u.moving[i].sent += e.Bytes
		}
		p.meter.add(p.now(), e.Bytes)
	case copy.EventEnd:
		sent := e.Descriptor.Size
		if i >= 0 {
			sent = u.moving[i].sent
			u.moving = slices.Delete(u.moving, i, i+1)
		}
		if strings.HasPrefix(e.What, "tag ") {
			return
		}
		u.covered += e.Descriptor.Size
		if e.Status != copy.Copied {
			return
		}
		u.sent += sent
		if !p.terminal && e.Descriptor.Digest != ocispec.DescriptorEmptyJSON.Digest { // {} came from nowhere
			p.lines = append(p.lines, ui.Travelled(e.Descriptor.Digest, e.What, e.Descriptor.Size, u.name))
		}
	}
}

// view is how far it is. The caller holds mu.
func (p *progress) view(now time.Time) ui.Progress {
	v := ui.Progress{Items: max(p.of, p.over+len(p.items)), Done: p.over, Running: len(p.items), Rate: p.meter.rate(now)}
	a, parts := p.rest, float64(p.over)
	for _, u := range p.items {
		of := u.amounts
		for _, m := range u.moving {
			of.sent, of.covered = of.sent+m.sent, of.covered+min(m.sent, m.size)
			if m.size >= largeBlob || now.Sub(m.since) >= slowAfter {
				b := ui.Bar{Digest: m.digest, Sent: m.sent, Size: m.size}
				if v.Items > 1 {
					b.Item = u.name
				}
				v.Bars = append(v.Bars, b)
			}
		}
		if of.total > 0 {
			of.covered = min(of.covered, of.total)
			parts += float64(of.covered) / float64(of.total)
		}
		a.sent, a.covered, a.total = a.sent+of.sent, a.covered+of.covered, a.total+of.total
	}
	v.Sent, v.Covered, v.Total = a.sent, a.covered, a.total
	v.Left, v.Guess = left(v, parts, now.Sub(p.began))
	return v
}

// left is the time that is left: of one item by its bytes, of many by how much of them was done so far, but no less than the bytes take
// that are known to be left.
func left(v ui.Progress, parts float64, passed time.Duration) (d time.Duration, guess bool) {
	const longest = 100 * 24 * time.Hour
	var seconds, known float64
	if v.Rate > 0 && v.Total > v.Covered {
		known = float64(v.Total-v.Covered) / v.Rate
	}
	switch {
	case v.Items > 1 && parts > 0 && passed > slowAfter:
		seconds, guess = max(known, passed.Seconds()*(float64(v.Items)-parts)/parts), true
	case v.Items <= 1:
		seconds = known
	}
	if seconds > longest.Seconds() {
		return 0, false
	}
	return time.Duration(seconds * float64(time.Second)), guess
}

// write says the lines that wait. The caller holds mu.
func (p *progress) write() {
	for _, line := range p.lines {
		p.say(line)
	}
	p.lines = p.lines[:0]
}

// say writes one line to a log.
func (p *progress) say(line string) {
	p.s.speak("imprint: ", line)
	p.said = p.now()
}

// draw draws how far it is in the place of what stands there. The caller holds mu.
func (p *progress) draw(now time.Time) {
	if len(p.items) == 0 || p.ended {
		p.wipe()
		return
	}
	columns, rows := p.s.env.Terminal.size()
	lines := ui.ProgressFrame(p.view(now), columns, rows)
	if slices.Equal(lines, p.drawn) {
		return
	}
	var b strings.Builder
	b.WriteString(p.up(columns))
	for i, line := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(line + "\x1b[K")
	}
	p.drawn = lines
	b.WriteString("\x1b[J")
	fmt.Fprint(p.s.err, b.String())
}

// wipe takes away what was drawn. The caller holds mu.
func (p *progress) wipe() {
	if len(p.drawn) == 0 {
		return
	}
	columns, _ := p.s.env.Terminal.size()
	fmt.Fprint(p.s.err, p.up(columns)+"\x1b[J")
	p.drawn = nil
}

// up goes to the first column of the first line that was drawn, on a terminal that may have become narrower meanwhile.
func (p *progress) up(columns int) string {
	rows := 0
	for _, line := range p.drawn {
		rows += max(1, (ui.Width(line)+columns-1)/columns)
	}
	if rows > 1 {
		return fmt.Sprintf("\r\x1b[%dA", rows-1)
	}
	return "\r"
}

// A speed measures bytes a second over the last seconds.
type speed struct {
	parts []part
	since time.Time // when the first came
}

// A part is what travelled within a short time.
type part struct {
	at    time.Time
	bytes int64
}

const (
	meterWindow = 5 * time.Second
	meterPart   = 200 * time.Millisecond
	meterLeast  = 500 * time.Millisecond // before that nobody can tell
)

func (m *speed) add(now time.Time, n int64) {
	if m.since.IsZero() {
		m.since = now
	}
	if last := len(m.parts) - 1; last >= 0 && now.Sub(m.parts[last].at) < meterPart {
		m.parts[last].bytes += n
		return
	}
	m.forget(now)
	m.parts = append(m.parts, part{now, n})
}

func (m *speed) forget(now time.Time) {
	old := 0
	for old < len(m.parts) && now.Sub(m.parts[old].at) > meterWindow {
		old++
	}
	m.parts = slices.Delete(m.parts, 0, old)
}

// rate is bytes a second, 0 if nothing travelled or it is too early to tell.
func (m *speed) rate(now time.Time) float64 {
	m.forget(now)
	passed := min(now.Sub(m.since), meterWindow)
	if m.since.IsZero() || passed < meterLeast {
		return 0
	}
	var sum int64
	for _, p := range m.parts {
		sum += p.bytes
	}
	return float64(sum) / passed.Seconds()
}
