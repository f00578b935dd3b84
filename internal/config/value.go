package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// badValues finds the values that their types cannot read, such as a duration
// of "ten minutes". The library says what a type has to complain of and not
// where, and only the first; so the file is walked along the types that read it.
func badValues(source []byte) []error {
	file, err := parser.ParseBytes(source, 0)
	if err != nil || len(file.Docs) == 0 {
		return nil // said better by the library
	}
	c := &checker{source: source}
	c.walk("$", file.Docs[0].Body, reflect.TypeFor[File]())
	return c.found
}

var reader = reflect.TypeFor[encoding.TextUnmarshaler]()

// walk reads what stands at path as a value of type t would.
func (c *checker) walk(path string, n ast.Node, t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch x := n.(type) {
	case *ast.AnchorNode:
		c.walk(path, x.Value, t)
	case *ast.MappingNode:
		for _, v := range x.Values {
			c.walkKey(path, v, t)
		}
	case *ast.MappingValueNode: // a block of one key
		c.walkKey(path, x, t)
	case *ast.SequenceNode:
		if t.Kind() == reflect.Slice {
			for i, v := range x.Values {
				c.walk(fmt.Sprintf("%s[%d]", path, i), v, t.Elem())
			}
		}
	case ast.ScalarNode:
		if !reflect.PointerTo(t).Implements(reader) {
			return
		}
		text := fmt.Sprint(x.GetValue())
		if _, isNull := n.(*ast.NullNode); isNull {
			return
		}
		if err := reflect.New(t).Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil { //nolint:forcetypeassert // asked above
			c.at(path, "%v", err)
		}
	}
}

func (c *checker) walkKey(path string, n *ast.MappingValueNode, t reflect.Type) {
	key := n.Key.String()
	switch t.Kind() {
	case reflect.Map:
		c.walk(path+"."+key, n.Value, t.Elem())
	case reflect.Struct:
		if field, ok := fieldOf(t, key); ok {
			c.walk(path+"."+key, n.Value, field)
		}
	default:
	}
}

// fieldOf finds the type of the field that is read from a key.
func fieldOf(t reflect.Type, key string) (reflect.Type, bool) {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == key {
			return f.Type, true
		}
		if strings.Contains(options, "inline") && f.Type.Kind() == reflect.Struct {
			if found, ok := fieldOf(f.Type, key); ok {
				return found, true
			}
		}
	}
	return nil, false
}

// misread turns what the library says of a file it could not read into what is
// told to people.
func misread(source []byte, err error) error {
	if _, placed := err.(yaml.Error); !placed { //nolint:errorlint // it wraps nothing
		if found := badValues(source); len(found) > 0 {
			return errors.Join(found...)
		}
	}
	return &Error{plain(err)}
}
