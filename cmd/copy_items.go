package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/imprint-oci/imprint/registry"
)

// A mapping makes destinations from the names of sources: FROM is whole path segments of HOST/REPO.
type mapping struct {
	from string             // canonical
	to   string             // of a remote one HOST[/PATH]
	into registry.Reference // a layout or archive, which keeps full names; else the zero reference
}

// mappings are those of a command line, the longest FROM first.
type mappings []mapping

// parseMappings reads --map FROM=TO.
func parseMappings(texts []string) (mappings, error) {
	var out mappings
	for _, text := range texts {
		from, to, ok := strings.Cut(text, "=")
		if !ok || from == "" || to == "" {
			return nil, usageHint("as --map vendor.example=harbor.example/vendor", "--map %q: it is FROM=TO", text)
		}
		m := mapping{from: strings.TrimSuffix(from, "/"), to: strings.TrimSuffix(to, "/")}
		// The host alone is no reference: what is below it makes it one.
		const below = "/x/x" // docker.io has no repository of one word
		under, err := registry.ParseReference(m.from + below)
		if err == nil && under.Kind != registry.Remote {
			err = errors.New("FROM is HOST or HOST/REPO; what is in a layout or archive goes by its full names")
		}
		if err != nil {
			return nil, usageHint("FROM is HOST or HOST/REPO, as vendor.example/db", "--map %q: %w", text, err)
		}
		m.from = strings.TrimSuffix(under.String(), below)
		if strings.HasPrefix(to, "oci:") || strings.HasPrefix(to, "oci-archive:") {
			if m.into, err = registry.ParseReference(to); err == nil && !m.into.IsRepository() {
				err = errors.New("the full names of the sources are kept: it takes no name of its own")
			}
		} else if under, err = registry.ParseReference(m.to + below); err == nil {
			m.to = strings.TrimSuffix(under.String(), below)
		}
		if err != nil {
			return nil, usageHint("TO is HOST, HOST/REPO, oci:DIR or oci-archive:FILE.tar", "--map %q: %w", text, err)
		}
		if slices.ContainsFunc(out, func(o mapping) bool { return o.from == m.from }) {
			return nil, usage("--map names %s twice", m.from)
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b mapping) int { return cmp.Compare(len(b.from), len(a.from)) })
	return out, nil
}

var errNoMapping = errors.New("no --map has a FROM that is the beginning of its name")

// of returns where the repository of source goes: of several that fit the one with the longest FROM.
func (m mappings) of(source registry.Reference) (registry.Reference, error) {
	name := source
	if source.Kind != registry.Remote {
		full, ok := source.FullName()
		if !ok {
			return registry.Reference{}, usageHint("name where it goes: SRC DST", "its name is not HOST/REPO:TAG, so that no --map fits")
		}
		name = full
	}
	repo := name.Repository().String()
	for _, to := range m {
		rest, ok := strings.CutPrefix(repo, to.from)
		if !ok || rest != "" && rest[0] != '/' {
			continue
		}
		if to.into != (registry.Reference{}) {
			return to.into, nil
		}
		ref, err := registry.ParseReference(to.to + rest)
		if err != nil {
			return ref, usageHint("write TO so that a repository comes of it", "--map %s=%s: %w", to.from, to.to, err)
		}
		return ref, nil
	}
	return registry.Reference{}, usageHint("add --map FROM=TO with a FROM that fits: "+repo, "%w: %s", errNoMapping, repo)
}

// A job is one artifact on its way, as the words of an item.
type job struct {
	from, to string
	tags     []string // those that were worked out before; to may hold the first of them
}

func jobOf(words item) job {
	if len(words) < 2 {
		return job{from: words[0]}
	}
	return job{words[0], words[1], words[2:]}
}

func (j job) words() item {
	if j.to == "" {
		return item{j.from}
	}
	return append(item{j.from, j.to}, j.tags...)
}

// An expansion makes items, one artifact each, of what was handed in.
type expansion struct {
	in     copyInputs
	maps   mappings
	places *places
	warn   func(code, text string)

	mu    sync.Mutex
	lists map[string]func() ([]string, error) // tags by repository: two items of it are one list
	wrong map[*string]error                   // by an item's first word: why it could not be made one
}

// items expands all that is given, a repository to its tags, at most jobs lists at once. What cannot be expanded stays
// an item, and fails when its turn comes.
func (e *expansion) items(ctx context.Context, all []given, jobs int) ([]item, error) {
	made := make([][]item, len(all))
	var listing sync.WaitGroup
	slots := make(chan struct{}, jobs)
	for i, g := range all {
		j := jobOf(g.words)
		if !e.in.whole() {
			made[i] = []item{e.single(j)}
			continue
		}
		repo, err := e.repository(j, g.own)
		if err == nil && repo == (registry.Reference{}) {
			made[i] = []item{e.single(j)}
			continue
		}
		if err != nil {
			made[i] = []item{e.fail(j, err)}
			continue
		}
		slots <- struct{}{}
		listing.Go(func() {
			defer func() { <-slots }()
			made[i] = e.tagged(ctx, repo, j)
		})
	}
	listing.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var out []item
	for _, some := range made {
		if out = append(out, some...); len(out) > maxBatchItems {
			return nil, usage("the repositories have more than %d tags", maxBatchItems)
		}
	}
	return out, nil
}

// fail keeps why an item is none.
func (e *expansion) fail(j job, err error) item {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.wrong == nil {
		e.wrong = map[*string]error{}
	}
	words := j.words()
	e.wrong[&words[0]] = err // two items may have the same words, and only one of them be wrong
	return words
}

// whyNot returns why an item that items made is none.
func (e *expansion) whyNot(it item) error { return e.wrong[&it[0]] }

// single gives a job its destination, where that comes of the source's name.
func (e *expansion) single(j job) item {
	if j.to != "" || len(e.maps) == 0 {
		return j.words()
	}
	source, err := artifact(j.from)
	if err != nil {
		return e.fail(j, err)
	}
	mapped, err := e.mapped(source)
	if err != nil {
		return e.fail(j, err)
	}
	return mapped.words()
}

// mapped is the job of a source whose destination comes of its name.
func (e *expansion) mapped(source registry.Reference) (job, error) {
	to, err := e.maps.of(source)
	if err != nil {
		return job{}, err
	}
	j := job{from: source.String(), to: to.String()}
	if to.Kind == registry.Remote {
		return j, nil
	}
	// A layout keeps the full name.
	name := source
	if full, ok := source.FullName(); ok {
		name = full
	}
	tags := e.in.tags
	if len(tags) == 0 {
		if tags = []string{name.Tag}; name.Tag == "" {
			return job{}, usageHint("name it by a tag, or give it one: --tag", "%s keeps full names, and a digest alone is none", to)
		}
	}
	for _, t := range tags {
		j.tags = append(j.tags, name.With(t, "").String())
	}
	j.to = to.With(j.tags[0], "").String()
	return j, nil
}

// repository parses the source of a job as a whole repository; the zero reference if a line of our own JSON names one
// artifact of it, which was expanded before.
func (e *expansion) repository(j job, own bool) (registry.Reference, error) {
	source, err := registry.ParseReference(j.from)
	if err != nil {
		return source, err
	}
	if !source.IsRepository() {
		if own {
			return registry.Reference{}, nil
		}
		return source, usageHint("leave out the tag, or --all-tags and --match", "%s names one artifact, and a whole repository was asked for", j.from)
	}
	if j.to != "" {
		destination, err := registry.ParseReference(j.to)
		if err != nil {
			return source, err
		}
		if !destination.IsRepository() {
			return source, usageHint("leave out its tag: each tag of the source is written", "%s: a whole repository goes there", j.to)
		}
	}
	return source, nil
}

// tagged makes an item of each tag of a repository, or of each name in a layout or archive.
func (e *expansion) tagged(ctx context.Context, repo registry.Reference, j job) []item {
	tags, err := e.list(ctx, repo)
	if err != nil {
		return []item{e.fail(j, fmt.Errorf("listing the tags of %s: %w", repo, err))}
	}
	var out []item
	left := 0
	for _, tag := range tags {
		source := repo.With(tag, "")
		if bare := source.BareTag(); ofDigest(bare) {
			if strings.Contains(bare, ".") {
				left++
			}
			continue
		} else if !e.in.matches(bare) {
			continue
		}
		made := job{from: source.String(), to: j.to}
		switch {
		case j.to == "":
			if made, err = e.mapped(source); err != nil {
				out = append(out, e.fail(job{from: source.String()}, err))
				continue
			}
		case repo.Kind != registry.Remote:
			made = between(source, j.to)
		}
		out = append(out, made.words())
	}
	if left > 0 && !e.in.digestTags {
		e.warn("digest-tags", fmt.Sprintf("%s: left behind: %d tags of the form sha256-….sig (cosign's); --digest-tags brings along those of what is copied", repo, left))
	}
	if len(out) == 0 {
		why := "it has no tag"
		if len(e.in.match) > 0 {
			why = "no tag of it matches " + strings.Join(e.in.match, " or ")
		}
		return []item{e.fail(j, fmt.Errorf("%s: %w: %s", repo, registry.ErrNotFound, why))}
	}
	return out
}

// between is the job of a name in a layout or archive whose destination was said: another one keeps the name as it is.
func between(source registry.Reference, to string) job {
	j := job{from: source.String(), to: to}
	if ref, err := registry.ParseReference(to); err == nil && ref.Kind != registry.Remote {
		j.to = ref.With(source.Tag, "").String()
	}
	return j
}

// list lists the tags of a repository, once for the run.
func (e *expansion) list(ctx context.Context, ref registry.Reference) ([]string, error) {
	e.mu.Lock()
	if e.lists == nil {
		e.lists = map[string]func() ([]string, error){}
	}
	key := ref.String()
	if e.lists[key] == nil {
		e.lists[key] = sync.OnceValues(func() ([]string, error) { return e.tagsOf(ctx, ref) })
	}
	list := e.lists[key]
	e.mu.Unlock()
	return list()
}

func (e *expansion) tagsOf(ctx context.Context, ref registry.Reference) ([]string, error) {
	repo, err := e.places.source(ctx, ref)
	if err != nil {
		return nil, err
	}
	if ref.Kind == registry.Remote {
		defer repo.Close()
	}
	var out []string
	seen := map[string]bool{}
	for tag, err := range repo.Tags(ctx) {
		switch {
		case err != nil:
			return nil, err
		case ref.Kind == registry.Remote && !registry.ValidTag(tag):
			return nil, fmt.Errorf("%w: it lists a tag that is none: %.40q", registry.ErrMalformed, tag)
		case seen[tag]:
			continue
		}
		seen[tag] = true
		if out = append(out, tag); len(out) > maxBatchItems {
			return nil, fmt.Errorf("%w: more than %d tags", registry.ErrTooLarge, maxBatchItems)
		}
	}
	return out, nil
}

// ofDigest reports whether a tag is one of those that only say something of a digest: the fallback of the referrers API
// (sha256-<hex>; distribution specification, "Referrers Tag Schema") and cosign's (sha256-<hex>.sig).
func ofDigest(tag string) bool {
	for _, algorithm := range []struct {
		prefix string
		digits int
	}{{"sha256-", 64}, {"sha512-", 64}, {"sha512-", 128}} { // the schema cuts what is longer
		hex, ok := strings.CutPrefix(tag, algorithm.prefix)
		hex, _, _ = strings.Cut(hex, ".")
		if ok && len(hex) == algorithm.digits && strings.Trim(hex, "0123456789abcdef") == "" {
			return true
		}
	}
	return false
}

// matches reports whether a tag is among those that were asked for.
func (in copyInputs) matches(tag string) bool {
	return len(in.match) == 0 || slices.ContainsFunc(in.match, func(p string) bool {
		ok, err := path.Match(p, tag)
		return ok && err == nil
	})
}

// whole reports whether sources are whole repositories.
func (in copyInputs) whole() bool { return in.allTags || len(in.match) > 0 }
