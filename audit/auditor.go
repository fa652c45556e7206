package audit

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"maps"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imprint-oci/imprint/registry"
)

// Options of an audit.
type Options struct {
	Now        time.Time     // required: everything is judged at one time
	Within     time.Duration // what ends within it is listed as expiring
	FailWithin time.Duration // what ends within it makes the audit fail; 0: nothing does
	// TimestampRoots are those of the authorities that verifiers trust. With some, a timestamp counts only if it verifies under one, and a
	// signature with such a timestamp outlives its chain. Without, the end of a chain counts whatever timestamp there is: some
	// verifiers look at none.
	TimestampRoots []*x509.Certificate
	// Superseded says which of an artifact's signatures prune would delete, and which one stays in their place. nil: those of which a
	// copy with a longer chain under the same root covers every ending.
	Superseded func(sigs []registry.Signature) map[digest.Digest]digest.Digest
	// Slots bounds, by its capacity, what is looked at at once in all repositories together; nil: a number of its own for each.
	Slots chan struct{}
}

// An Auditor audits repositories into one report. Its methods may be called concurrently.
type Auditor struct {
	o     Options
	shelf shelf
}

// New begins an audit.
func New(o Options) *Auditor {
	return &Auditor{o: o, shelf: shelf{all: map[string]*Certificate{}}}
}

// A Surveyed is one repository as an audit found it.
type Surveyed struct {
	Repository Repository
	Artifacts  []Artifact
	Unseen     []Unseen
}

// Repository walks a repository, from what from names or from all of its tags, and reads each signature once. The error is of the
// walk, as of listing the tags; what was seen by then is returned with it.
func (a *Auditor) Repository(ctx context.Context, repo *registry.Repo, from ...registry.Reference) (Surveyed, error) {
	name := repo.Reference().Repository()
	x := &expedition{auditor: a, repo: repo, name: name, finds: map[digest.Digest]*find{}, tags: map[string]digest.Digest{}}
	err := repo.Walk(ctx, registry.WalkOptions{From: from, Named: x.named, Slots: a.o.Slots}, x.visit)
	return x.conclude(), err
}

// An expedition is the walk of one repository.
type expedition struct {
	auditor *Auditor
	repo    *registry.Repo
	name    registry.Reference

	mu     sync.Mutex
	finds  map[digest.Digest]*find
	tags   map[string]digest.Digest
	unseen []Unseen
}

// A find is an artifact with what is needed only until the repository is through.
type find struct {
	Artifact
	within   digest.Digest
	members  []member // of an index
	examined bool     // false: it is not known what refers to it
}

type member struct {
	digest   digest.Digest
	platform string
}

func (x *expedition) named(tag string, d digest.Digest) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.tags[tag] = d
}

func (x *expedition) visit(ctx context.Context, v registry.Visit) error {
	f := &find{Artifact: Artifact{
		Repository: x.name.String(), Reference: x.name.With("", v.Subject.Digest).String(), Digest: v.Subject.Digest, Role: v.Role,
		Platform: registry.PlatformName(v.Platform), Signatures: []Listed{},
	}, within: v.Within}
	if v.Role == registry.RoleChild {
		f.Index = v.Within
	}
	if v.Manifest != nil {
		if parts, err := v.Manifest.Parse(); err == nil {
			f.What = What(parts)
			f.members = members(parts.Manifests)
		}
	}
	switch {
	case v.Err != nil && v.Role == registry.RoleFallback && errors.Is(v.Err, registry.ErrNotFound):
		f.find(codeOrphan, Finding{}, "something refers to it, and it is not there")
	case v.Err != nil:
		x.missed(ctx, v, v.Err)
		return context.Cause(ctx)
	case f.What == "signature": // a tag names it; it is read where it is listed
		return nil
	default:
		marks, err := x.auditor.readMarks(ctx, x.repo, v.Subject, v.Referrers)
		if err != nil {
			x.missed(ctx, v, err)
			return context.Cause(ctx)
		}
		x.take(f, marks)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.finds[f.Digest] = f
	return nil
}

// missed notes what could not be read.
func (x *expedition) missed(ctx context.Context, v registry.Visit, err error) {
	if ctx.Err() != nil {
		return
	}
	ref := x.name.With("", v.Subject.Digest)
	if v.Subject.Digest == "" && len(v.Tags) > 0 {
		ref = x.name.With(v.Tags[0], "")
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.unseen = append(x.unseen, Unseen{Item: ref.String(), Reason: reasonOf(err), Text: err.Error(), Err: err})
}

// take works out what the signatures of an artifact come to, and forgets their bytes.
func (x *expedition) take(f *find, marks []*mark) {
	a := x.auditor
	f.examined = true
	a.settle(marks)
	f.judge(marks, a.o.Now)
	var last *time.Time
	forever := false
	for _, m := range marks {
		f.Signatures = append(f.Signatures, m.Listed)
		if m.State != StateCurrent {
			continue
		}
		a.shelf.count(m)
		if f.FirstEnd == nil || m.Ends != nil && m.Ends.Before(*f.FirstEnd) {
			f.FirstEnd = m.Ends
		}
		forever = forever || m.Ends == nil
		if last == nil || m.Ends != nil && m.Ends.After(*last) {
			last = m.Ends
		}
	}
	if !forever {
		f.HoldsUntil = last
	}
	slices.SortFunc(f.Signatures, func(a, b Listed) int {
		when := func(t *time.Time) time.Time {
			if t == nil {
				return time.Time{}
			}
			return *t
		}
		return cmp.Or(when(a.SignedAt).Compare(when(b.SignedAt)), cmp.Compare(a.Core, b.Core), cmp.Compare(a.Digest, b.Digest))
	})
}

// members lists the platform images of an index. What buildx attests stands beside them as unknown/unknown.
func members(manifests []ocispec.Descriptor) (out []member) {
	for _, m := range manifests {
		if m.Platform != nil && m.Platform.OS != "unknown" {
			out = append(out, member{m.Digest, registry.PlatformName(m.Platform)})
		}
	}
	return out
}

// conclude finds what only the repository as a whole shows, and puts its artifacts in order.
func (x *expedition) conclude() Surveyed {
	for _, tag := range slices.Sorted(maps.Keys(x.tags)) {
		if f := x.finds[x.tags[tag]]; f != nil {
			f.Tags = append(f.Tags, tag)
		}
	}
	x.judgeIndexes()
	uses := x.judgeClaims()
	r := Repository{Name: x.name.String(), Claims: uses, Unseen: len(x.unseen)}
	before := x.auditor.o.Now.Add(x.auditor.o.Within)
	out := Surveyed{Unseen: x.unseen}
	slices.SortFunc(out.Unseen, func(a, b Unseen) int { return cmp.Compare(a.Item, b.Item) })
	for _, f := range x.inOrder() {
		f.judgeWhole()
		slices.SortStableFunc(f.Findings, func(a, b Finding) int { return cmp.Compare(weight(a.Code), weight(b.Code)) })
		r.add(f.Artifact, before)
		out.Artifacts = append(out.Artifacts, f.Artifact)
	}
	out.Repository = r
	return out
}

func weight(code string) int {
	return slices.IndexFunc(FindingKinds(), func(k FindingKind) bool { return k.Code == code })
}

// inOrder returns the finds by tag and digest; what is a member of an index, or refers to something, comes after that.
func (x *expedition) inOrder() []*find {
	below := map[digest.Digest][]*find{}
	for _, f := range x.finds {
		at := f.within
		if f.Role == registry.RoleRoot || f.Role == registry.RoleFallback || x.finds[at] == nil {
			at = ""
		}
		below[at] = append(below[at], f)
	}
	first := func(f *find) string {
		if len(f.Tags) == 0 {
			return "\xff" // tags are ASCII
		}
		return f.Tags[0]
	}
	var out []*find
	taken := map[digest.Digest]bool{}
	var take func(at digest.Digest)
	take = func(at digest.Digest) {
		some := below[at]
		slices.SortFunc(some, func(a, b *find) int {
			return cmp.Or(cmp.Compare(first(a), first(b)), cmp.Compare(a.Role, b.Role), cmp.Compare(a.Platform, b.Platform), cmp.Compare(a.Digest, b.Digest))
		})
		for _, f := range some {
			if !taken[f.Digest] {
				taken[f.Digest] = true
				out = append(out, f)
				take(f.Digest)
			}
		}
	}
	take("")
	// What refers to one another in a circle hangs from nothing.
	for _, d := range slices.Sorted(maps.Keys(x.finds)) {
		if f := x.finds[d]; !taken[d] {
			taken[d] = true
			out = append(out, f)
		}
	}
	return out
}

func (r *Repository) add(a Artifact, before time.Time) {
	r.Artifacts++
	r.Tagged += one(len(a.Tags) > 0)
	r.Signed += one(a.signed())
	r.Unsigned += one(a.expected() && !a.signed() && a.Role == registry.RoleRoot)
	r.Signatures += len(a.Signatures)
	r.Findings += len(a.Findings)
	for _, f := range a.Findings {
		r.Problems += one(f.Severity == Problem)
	}
	for _, s := range a.Signatures {
		if s.State != StateCurrent {
			continue
		}
		r.Current++
		r.Expiring += one(s.Ends != nil && !s.Ends.After(before))
	}
	if a.FirstEnd != nil && (r.FirstEnd == nil || a.FirstEnd.Before(*r.FirstEnd)) {
		r.FirstEnd = a.FirstEnd
	}
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// signed reports whether some signature of it verifies.
func (a *Artifact) signed() bool {
	return slices.ContainsFunc(a.Signatures, func(s Listed) bool { return s.State != StateBad })
}

// digestTag is how cosign names what belongs to a digest.
var digestTag = regexp.MustCompile(`^sha256-[0-9a-f]{64}(\.[\w.-]+)?$`)

// expected reports whether one expects it to be signed: a tag names it that is no digest's, or it was asked for by its digest.
func (a *Artifact) expected() bool {
	if len(a.Tags) == 0 {
		return a.Role == registry.RoleRoot
	}
	return slices.ContainsFunc(a.Tags, func(t string) bool { return !digestTag.MatchString(t) })
}

// judgeWhole notes that something is not signed at all.
func (f *find) judgeWhole() {
	switch {
	case !f.examined || f.signed():
	case len(f.Signatures) > 0:
		f.find(codeNoneValid, Finding{}, "none of its %d signatures verifies", len(f.Signatures))
	case f.expected():
		f.find(codeUnsigned, Finding{}, "unsigned")
	}
}

// judgeIndexes notes platform images that are unsigned under a signed index.
func (x *expedition) judgeIndexes() {
	for _, f := range x.finds {
		if !f.signed() {
			continue
		}
		var missing []string
		var which []digest.Digest
		for _, m := range f.members {
			if c := x.finds[m.digest]; c != nil && c.examined && !c.signed() && !slices.Contains(which, m.digest) {
				missing, which = append(missing, m.platform), append(which, m.digest)
			}
		}
		if len(missing) > 0 {
			noun := "image"
			if len(missing) > 1 {
				noun = "images"
			}
			f.find(codePlatform, Finding{Others: which}, "platform %s unsigned: %s", noun, list(missing))
		}
	}
}
