package registry

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// A challenge is what a registry asks for with 401 (RFC 9110 section 11.6.1, and the distribution project's token specification).
type challenge struct {
	bearer  bool
	realm   string
	service string
	scope   string // what the registry says is missing; see [ownScope]
}

var errChallenge = errors.New("malformed WWW-Authenticate header")

const maxChallenge = 8 << 10 // bytes of all WWW-Authenticate headers together

// parseChallenges picks the challenge to answer: Bearer before Basic, the first of its kind. ok is false if there is
// neither. A header that is not exactly RFC 9110's grammar is an error: what parsers read differently is not answered
// with a password.
func parseChallenges(h http.Header) (c challenge, ok bool, err error) {
	var basic bool
	total := 0
	for _, line := range h.Values("Www-Authenticate") {
		if total += len(line); total > maxChallenge {
			return challenge{}, false, errChallenge
		}
		list, err := parseChallengeList(line)
		if err != nil {
			return challenge{}, false, err
		}
		for _, one := range list {
			switch {
			case strings.EqualFold(one.scheme, "basic"):
				basic = true
			case strings.EqualFold(one.scheme, "bearer") && !c.bearer:
				c = challenge{bearer: true, realm: one.params["realm"], service: one.params["service"], scope: one.params["scope"]}
			}
		}
	}
	if c.bearer && c.realm == "" {
		return challenge{}, false, errChallenge
	}
	return c, c.bearer || basic, nil
}

type rawChallenge struct {
	scheme string
	params map[string]string
}

// parseChallengeList reads one header: challenges separated by commas, each a scheme with parameters separated by commas.
func parseChallengeList(s string) ([]rawChallenge, error) {
	var list []rawChallenge
	rest := strings.Trim(s, " \t")
	for rest != "" {
		if rest[0] == ',' { // empty list elements are allowed
			rest = strings.TrimLeft(rest[1:], " \t")
			continue
		}
		scheme, after := cutToken(rest)
		if scheme == "" {
			return nil, errChallenge
		}
		one := rawChallenge{scheme: scheme, params: make(map[string]string)}
		rest = strings.TrimLeft(after, " \t")
		if rest != "" && rest[0] != ',' && rest == after {
			return nil, errChallenge
		}
		for rest != "" {
			if rest[0] == ',' {
				rest = strings.TrimLeft(rest[1:], " \t")
				continue
			}
			name, value, after, err := cutParam(rest)
			if err != nil {
				return nil, err
			}
			if name == "" { // the next challenge begins
				break
			}
			if _, double := one.params[name]; double {
				return nil, errChallenge
			}
			one.params[name] = value
			rest = strings.TrimLeft(after, " \t")
			if rest != "" && rest[0] != ',' {
				return nil, errChallenge
			}
		}
		list = append(list, one)
	}
	return list, nil
}

// cutParam cuts name=value off s; name is empty if s begins with another scheme instead. token68 is not among what
// registries send and is refused.
func cutParam(s string) (name, value, rest string, err error) {
	name, rest = cutToken(s)
	if name == "" {
		return "", "", "", errChallenge
	}
	after := strings.TrimLeft(rest, " \t")
	if after == "" || after[0] != '=' {
		if after == "" || after[0] == ',' || after != rest {
			return "", "", s, nil
		}
		return "", "", "", errChallenge
	}
	rest = strings.TrimLeft(after[1:], " \t")
	if rest == "" || rest[0] != '"' {
		value, rest = cutToken(rest)
		if value == "" {
			return "", "", "", errChallenge
		}
		return strings.ToLower(name), value, rest, nil
	}
	var b strings.Builder
	for i := 1; i < len(rest); i++ {
		switch ch := rest[i]; {
		case ch == '"':
			return strings.ToLower(name), b.String(), rest[i+1:], nil
		case ch == '\\':
			if i++; i == len(rest) {
				return "", "", "", errChallenge
			}
			b.WriteByte(rest[i])
		case ch < ' ' && ch != '\t' || ch == 0x7f:
			return "", "", "", errChallenge
		default:
			b.WriteByte(ch)
		}
	}
	return "", "", "", errChallenge
}

func cutToken(s string) (token, rest string) {
	end := strings.IndexFunc(s, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r < 0x80 && strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	})
	if end < 0 {
		return s, ""
	}
	return s[:end], s[end:]
}

// ownScope returns those scopes of a challenge that concern one of the repositories that the request is about, with
// actions that exist, or the list of repositories where that is asked for (by the empty name). A registry cannot make us
// fetch a token for another repository.
func ownScope(scope string, repositories []string) []string {
	var own []string
	for s := range strings.FieldsSeq(scope) {
		if s == auth.ScopeRegistryCatalog && slices.Contains(repositories, "") {
			own = append(own, s)
			continue
		}
		rest, ok := strings.CutPrefix(s, "repository:")
		if !ok {
			continue
		}
		at := strings.LastIndexByte(rest, ':')
		if at < 0 || !slices.Contains(repositories, rest[:at]) {
			continue
		}
		known := true
		for action := range strings.SplitSeq(rest[at+1:], ",") {
			known = known && slices.Contains([]string{"pull", "push", "delete", "*"}, action)
		}
		if known {
			own = append(own, s)
		}
	}
	return own
}
