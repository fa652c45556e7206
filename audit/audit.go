// Package audit surveys artifacts and repositories: what their signatures say, until when they hold, and what ends them. It judges no trust.
package audit

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/imprint-oci/imprint/certchain"
	"github.com/imprint-oci/imprint/envelope"
	"github.com/imprint-oci/imprint/registry"
)

const (
	codeUnreadable   = "unreadable"
	codeElsewhere    = "signs-another"
	codeMisdescribed = "misdescribed"
)

// Reasons returns the codes of this package with one sentence each.
func Reasons() map[string]string {
	reasons := map[string]string{
		codeUnreadable:   "A listed signature could not be read, for a reason that has no code of its own.",
		codeMisdescribed: "The list of referrers describes the signature otherwise than it is, so that stock verifiers do not find it.",
		codeElsewhere:    "The signature is its certificate's, but of another artifact than the one it refers to.",
	}
	for _, k := range FindingKinds() {
		reasons[k.Code] = k.Meaning
	}
	return reasons
}

// Media types of what an image's configuration may be.
const (
	ociConfig    = "application/vnd.oci.image.config.v1+json"
	dockerConfig = "application/vnd.docker.container.image.v1+json"
)

// What describes an artifact to people: "image", "index, 2 platforms", "signature", or its artifact type.
func What(p registry.Parts) string {
	switch {
	case p.ArtifactType == registry.ArtifactTypeSignature:
		return "signature"
	case p.Shape == registry.ShapeUnknown:
		return "unknown"
	case p.Shape == registry.ShapeIndex && p.ArtifactType == "":
		return whatIndex(p)
	case p.ArtifactType == "", p.ArtifactType == ociConfig, p.ArtifactType == dockerConfig:
		return p.Shape
	}
	return p.ArtifactType
}

func whatIndex(p registry.Parts) string {
	platforms := 0
	for _, m := range p.Manifests {
		if m.Platform != nil && m.Platform.OS != "unknown" { // buildx lists its attestations as platform unknown/unknown
			platforms++
		}
	}
	n, noun := platforms, "platform"
	if platforms == 0 {
		n, noun = len(p.Manifests), "manifest"
	}
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("index, %d %s", n, noun)
}

// reasonOf returns the stable code that err carries.
func reasonOf(err error) string {
	var coded interface{ Reason() string }
	if errors.As(err, &coded) {
		return coded.Reason()
	}
	return codeUnreadable
}

// ends returns until when c holds and what ends it: the subject of the certificate that ends first, or "expiry".
func ends(c envelope.Content) (until time.Time, first string, ok bool) {
	if len(c.Chain) == 0 {
		return time.Time{}, "", false
	}
	cert, until := c.Chain.HoldsUntil()
	if !c.Expiry.IsZero() && c.Expiry.Before(until) {
		return c.Expiry, "expiry", true
	}
	return until, certchain.NameOf(cert.RawSubject), true
}

// parallel bounds how many signatures are read at once; the registry's client bounds its requests besides.
const parallel = 16

// each calls f for 0…n-1, at most parallel at once, and waits for all.
func each(n int, f func(i int)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f(i)
		})
	}
	wg.Wait()
}
