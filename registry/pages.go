package registry

import (
	"cmp"
	"context"
	"iter"
	"net/http"
	"net/url"
	"strings"
)

// A pager follows the links of a list, on its own host only, not in circles, and not for ever (most pages; 0: MaxPages).
type pager struct {
	store *remote
	most  int
	seen  map[string]bool
}

// A page of a list. The last has none after it.
type page struct {
	header http.Header
	body   []byte
	last   bool
}

// pages reads a list, at most so many pages of it.
func (s *remote) pages(ctx context.Context, list call, most int) iter.Seq2[page, error] {
	return func(yield func(page, error) bool) {
		pages := pager{store: s, most: most}
		for {
			resp, body, err := s.read(ctx, list, MaxManifest)
			if err != nil {
				yield(page{}, err)
				return
			}
			u, err := pages.next(resp)
			if !yield(page{resp.Header, body, err == nil && u == nil}, nil) {
				return
			}
			if err != nil {
				yield(page{}, err)
				return
			}
			if u == nil {
				return
			}
			list.url = u
		}
	}
}

// next returns where the next page is, or nil.
func (p *pager) next(resp *http.Response) (*url.URL, error) {
	target := nextLink(resp.Header)
	if target == "" {
		return nil, nil
	}
	base, err := url.Parse(p.store.base)
	if err != nil {
		return nil, err
	}
	u, err := resp.Request.URL.Parse(target)
	if err != nil || !sameOrigin(u, base) || u.User != nil { // net/http would send that user's password
		return nil, fail(codeLink, "%w (%w): after %d pages of a list of %s the next is said to be somewhere else", ErrCapped, ErrMalformed, max(1, len(p.seen)), p.store.host)
	}
	if p.seen == nil {
		p.seen = map[string]bool{resp.Request.URL.String(): true}
	}
	if p.seen[u.String()] {
		return nil, fail(codeLink, "%w (%w): a list of %s goes in a circle after %d pages", ErrCapped, ErrMalformed, p.store.host, len(p.seen))
	}
	if most := cmp.Or(p.most, MaxPages); len(p.seen) >= most {
		return nil, fail(codeCapped, "%w (%w): a list of %s has more than %d pages", ErrCapped, ErrTooLarge, p.store.host, most)
	}
	p.seen[u.String()] = true
	return u, nil
}

// nextLink reads the target of rel="next" (RFC 8288).
func nextLink(h http.Header) string {
	for _, line := range h.Values("Link") {
		for part := range strings.SplitSeq(line, ",") {
			target, params, ok := strings.Cut(part, ";")
			target = strings.TrimSpace(target)
			if !ok || !strings.HasPrefix(target, "<") || !strings.HasSuffix(target, ">") {
				continue
			}
			for param := range strings.SplitSeq(params, ";") {
				name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
				if strings.EqualFold(name, "rel") && strings.EqualFold(strings.Trim(value, `"`), "next") {
					return target[1 : len(target)-1]
				}
			}
		}
	}
	return ""
}
