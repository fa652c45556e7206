package trust

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

// full is a sieve that keeps nothing more as it is.
func full(p *Policy, at registry.Reference, now time.Time) *sieve {
	s := newSieve(func() court { return p.court(at, artifact, now, evidence{}) })
	s.kept.Store(keptWhole)
	return s
}

// annotated is a signature as it is read: with the annotations of its manifest.
func annotated(sig registry.Signature) registry.Signature {
	sig.Annotations = map[string]string{"note": "anybody's"}
	return sig
}

// What evidence can still make count is kept, and whatever is let go of is judged as it would have been.
func TestSieveKeepsWhatMayCount(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ours, stranger := newSignatory("ours", organisation("Ours")), newSignatory("stranger")
	another := payloadOf(describe("another"))
	p := rooted(t, map[string]*signatory{"ours": ours, "ca": newSignatory("ca")}, `
scopes:
  r.example: {trust: [{root: ours, identities: ["O=Ours"]}]}
  r.example/closed: {reject: true}
  r.example/free: {accept: unsigned}
  r.example/both: {require: [[ours], [ca]]}
  d.example: {trust: [ours], delegate: {root: ca, from: registry, at: "d.example/documents:v1", identities: [CN=documents]}}
`)
	broken := ours.sign(t, signing{})
	broken.Envelope = bytes.Replace(broken.Envelope, []byte(`"signature":"`), []byte(`"signature":"AAAA`), 1)
	unfetched := stranger.sign(t, signing{})
	unfetched.Err = fmt.Errorf("reading: %w", registry.ErrUnavailable)
	cose := stranger.sign(t, signing{format: envelope.COSE})
	signatures := map[string]registry.Signature{
		"ours":                     ours.sign(t, signing{}),
		"ours, of another name":    ours.under("other", organisation("Other")).sign(t, signing{}),
		"ours, expired":            ours.sign(t, signing{at: now.Add(-2 * time.Hour), expiry: now.Add(-time.Hour)}),
		"ours, of another":         ours.sign(t, signing{payload: &another}),
		"ours, broken":             broken,
		"a stranger's":             stranger.sign(t, signing{}),
		"a stranger's, COSE":       cose,
		"a stranger's, of another": stranger.sign(t, signing{payload: &another}),
		"garbage":                  found(string(envelope.JWS), []byte("{")),
		"of no type":               found("text/plain", []byte("hello")),
		"unfetched":                unfetched,
	}
	own := []string{"ours", "ours, of another name", "ours, expired", "ours, of another"}
	for reference, kept := range map[string][]string{
		"r.example/x:1":        own,
		"r.example/both/x:1":   own,
		"r.example/closed/x:1": nil,
		"r.example/free/x:1":   nil,
		"q.example/x:1":        nil,
		"d.example/x:1":        append([]string{"a stranger's", "a stranger's, COSE", "a stranger's, of another"}, own...), // a document may bring their root
	} {
		at := ref(t, reference)
		for name, whole := range signatures {
			whole = annotated(whole)
			sig := whole
			full(p, at, now).take(&sig)
			if got, want := sig.Envelope != nil, slices.Contains(kept, name); got != want {
				t.Errorf("%s: %s: kept %v, want %v", reference, name, got, want)
			}
			if sig.Manifest.Bytes != nil || sig.Annotations != nil {
				t.Errorf("%s: %s: its manifest is kept", reference, name)
			}
			if whole.Err != nil && !errors.Is(sig.Err, whole.Err) {
				t.Errorf("%s: %s: %v is now %v", reference, name, whole.Err, sig.Err)
			}
			if got, want := p.Judge(at, artifact, sigs(sig), now), p.Judge(at, artifact, sigs(whole), now); !cmp.Equal(got, want) {
				t.Errorf("%s: %s: %s", reference, name, cmp.Diff(want, got))
			}
		}
	}
}

// The usual few wait as they are; of a flood no more is kept than that, whoever comes first.
func TestSieveBoundsWhatIsKept(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ours, stranger := newSignatory("ours"), newSignatory("stranger")
	p, at := oneRoot(t, ours), ref(t, "r.example/x:1")
	long := stranger.sign(t, signing{claims: longClaims(1 << 10)})
	junk := found(string(envelope.JWS), []byte(`{"payload":"`+strings.Repeat("A", 40<<10)+`"}`))
	good := ours.sign(t, signing{})
	s := newSieve(func() court { return p.court(at, artifact, now, evidence{}) })
	first := annotated(long)
	s.take(&first)
	if first.Err != nil || len(first.Envelope) != len(long.Envelope) || first.Manifest.Bytes == nil || first.Annotations == nil {
		t.Errorf("the first one is not kept as it is: %v", first.Err)
	}
	const flood = 600
	all := make([]registry.Signature, flood)
	var wait sync.WaitGroup
	for i := range all {
		all[i] = []registry.Signature{long, junk}[i%2]
		if i == flood/2 {
			all[i] = good
		}
		wait.Go(func() { s.take(&all[i]) })
	}
	wait.Wait()
	sent, kept := 0, len(first.Envelope)+len(first.Manifest.Bytes)
	for i, sig := range all {
		sent += []int{len(long.Envelope), len(junk.Envelope)}[i%2]
		kept += len(sig.Envelope) + len(sig.Manifest.Bytes)
		var told finding
		if told, _ = alreadyHeard(sig); told.Metadata != nil || told.Claims != nil || told.Chain != nil {
			t.Fatal("a report would hold what strangers have to say")
		}
	}
	if most := keptWhole + len(good.Envelope) + len(good.Manifest.Bytes); kept > most || sent < 10*most {
		t.Errorf("%d bytes of %d are kept, want at most %d", kept, sent, most)
	}
	if got := p.Judge(at, artifact, all, now); got.Verdict != Accepted || len(got.Signatures) != flood {
		t.Errorf("got %s %s of %d signatures", got.Verdict, got.Reason, len(got.Signatures))
	}
}

// longClaims are n claims of forty bytes.
func longClaims(n int) []string {
	claims := make([]string, n)
	for i := range claims {
		claims[i] = fmt.Sprintf("r.example/%026d:1", i)
	}
	return claims
}

// A report does not depend on when a signature was read: neither what is accepted, nor what is told of the others, also where a document
// has yet to say whose root counts (P12).
func TestSieveAndOrder(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.bulletin.put(t, d.document(nil), posting{by: d.issuer})
	now := time.Now()
	large := found(string(envelope.JWS), []byte(`{"payload":"`+strings.Repeat("A", keptWhole*2/5)+`"}`))
	larger := found(string(envelope.JWS), []byte(`{"payload":"`+strings.Repeat("B", keptWhole/2)+`"}`))
	named := map[string]registry.Signature{
		"granted":            d.acme.sign(t, signing{}),
		"granted, long":      d.acme.sign(t, signing{claims: append(longClaims(1<<10), "1")}),
		"a stranger's":       newSignatory("stranger").sign(t, signing{claims: []string{"1"}}),
		"a stranger's, long": newSignatory("stranger").sign(t, signing{claims: longClaims(1 << 10)}),
		"large":              large,
		"larger":             larger,
		"unfetched":          {Subject: artifact, Descriptor: describe("gone"), Err: fmt.Errorf("reading: %w", registry.ErrUnavailable)},
	}
	names := slices.Sorted(maps.Keys(named))
	for reference, accepted := range map[string]bool{"docker.io/acme2/app:1": true, "docker.io/acme3/app:1": false, "docker.io/vendor/app:1": false} {
		p, at := d.policy(t, ""), ref(t, reference)
		var want Report
		for turn := range names {
			for _, backwards := range []bool{false, true} {
				order := slices.Concat(names[turn:], names[:turn])
				if backwards {
					slices.Reverse(order)
				}
				s := newSieve(func() court { return p.court(at, artifact, now, evidence{}) })
				var read []registry.Signature
				for _, name := range order {
					sig := named[name]
					s.take(&sig)
					read = append(read, sig)
				}
				got, err := p.Examine(t.Context(), at, artifact, read, now, d.run())
				if err != nil {
					t.Fatal(err)
				}
				if want.Verdict == "" {
					if want = got; (got.Verdict == Accepted) != accepted {
						t.Errorf("%s: got %s %s", reference, got.Verdict, got.Reason)
					}
				}
				if !cmp.Equal(got, want) {
					t.Fatalf("%s: read in the order %q: %s", reference, order, cmp.Diff(want, got))
				}
			}
		}
	}
}

// An envelope in parts takes several times its size: only a few are looked at at once.
func TestSieveParsesFewAtOnce(t *testing.T) {
	t.Parallel()
	stranger, p := newSignatory("stranger").sign(t, signing{}), oneRoot(t, newSignatory("ours"))
	at := ref(t, "r.example/x:1")
	synctest.Test(t, func(t *testing.T) {
		looking := 0
		s := newSieve(func() court { looking++; return p.court(at, artifact, time.Now(), evidence{}) })
		s.kept.Store(keptWhole)
		for range cap(s.slots) {
			s.slots <- struct{}{}
		}
		sig := stranger
		done := make(chan struct{})
		go func() { s.take(&sig); close(done) }()
		synctest.Wait()
		if looking > 0 || cap(s.slots) > 4 {
			t.Errorf("one more than %d are looked at", cap(s.slots))
		}
		<-s.slots
		<-done
		if _, ok := alreadyHeard(sig); !ok || looking != 1 || len(s.slots) != cap(s.slots)-1 {
			t.Errorf("it is not looked at, or holds its place: %d of %d", len(s.slots), cap(s.slots))
		}
	})
}
