// Which taps are folded into which planes, and which planes are multiplied by which weights.

#pragma once
#include "program.h"

namespace {

inline int64_t tap_at(const Program &p, const int64_t *q) {
    return (q[0] * p.task.kernel[1] + q[1]) * p.task.kernel[2] + q[2];
}

// The place in the kernel where a mirror sees a tap.
inline void reflect(const Program &p, int mirror, const int64_t *q, int64_t *to) {
    for (int a = 0; a < 3; a++) to[a] = q[a];
    for (int b = 0; b < p.bits; b++)
        if (mirror >> b & 1) to[p.axis[b]] = p.task.kernel[p.axis[b]] - 1 - q[p.axis[b]];
}

inline int64_t region_offset(const Program &p, const int64_t *q) {
    int64_t offset = 0;
    for (int a = 0; a < 3; a++) offset += q[a] * p.task.dilation[a] * p.region_pitch[a];
    return offset;
}

// Planes stand at output positions along folded axes, and where no tap moves; along the others they hold all that is read.
inline int64_t plane_offset(const Program &p, const int64_t *q) {
    int64_t offset = 0;
    for (int a = 0; a < 3; a++)
        if (!p.own[a]) offset += q[a] * p.task.dilation[a] * p.plane_pitch[a];
    return offset;
}

// False where a tap is folded together with an earlier one.
inline bool class_of(const Program &p, const int64_t *q, Class &found) {
    int moving = 0;
    found = {{q[0], q[1], q[2]}, 0, {}, 0, true};
    for (int b = 0; b < p.bits; b++) {
        int64_t here = q[p.axis[b]], there = p.task.kernel[p.axis[b]] - 1 - here;
        if (there != here) moving |= 1 << b;
        if (there < here && !p.deep) return false;
    }
    for (int a = 0; a < 3; a++)
        if (!p.folded[a] && q[a]) found.root = false;
    int all = 0;
    for (int g = 0; g < p.members; g++)
        if (p.deep || !(g & ~moving)) found.mirror[found.count++] = g, all |= g;
    found.sort = all >> p.folded[2];
    return true;
}

inline void plan_classes(Program &p) {
    int64_t q[3];
    p.class_count = 0;
    for (q[0] = 0; q[0] < p.task.kernel[0]; q[0]++)
        for (q[1] = 0; q[1] < p.task.kernel[1]; q[1]++)
            for (q[2] = 0; q[2] < p.task.kernel[2]; q[2]++) p.class_count += class_of(p, q, p.classes[p.class_count]);
}

template <class Visit> inline void for_each_class(const Program &p, Visit visit) {
    for (const Class *c = p.classes; c < p.classes + p.class_count; c++) visit(c->tap, *c);
}

// Calls `visit(group, q, class, i)` for every slot, in the order in which `across.h` sums them, sort after sort.
template <class Visit> inline void for_each_slot(const Program &p, Visit visit) {
    for (int group = 0; group < p.groups; group++)
        for (int sort = 0; sort < MEMBERS / 2; sort++)
            for_each_class(p, [&](const int64_t *q, const Class &c) {
                for (int i = 0; i < c.count; i++)
                    if (c.sort == sort && (p.groups == 1 || c.mirror[i] == group)) visit(group, q, c, i);
            });
}

// Every class of taps makes a plane per character, shared by the taps that are only moved. What stands close by is read in
// the order in which it is summed; what no letter moves is then a plane, too.
inline void number_planes(Program &p, int64_t *made) {
    p.planes = 0;
    for_each_slot(p, [&](int, const int64_t *q, const Class &c, int i) {
        if (c.root && (p.close || c.count > 1)) made[tap_at(p, q) * MEMBERS + i] = p.planes++;
    });
}

inline void add_fold(Program &p, const int64_t *q, const Class &c, int wanted, const int64_t *made) {
    Fold &fold = p.folds[p.fold_count++];
    fold.count = c.count;
    fold.character = wanted;
    for (int i = 0; i < c.count; i++) {
        int64_t at[3];
        reflect(p, c.mirror[i], q, at);
        int member = p.deep ? c.mirror[i] : wanted < 0 ? 0 : c.mirror[wanted];
        fold.from[i] = member * p.member_pitch + region_offset(p, at);
    }
    for (int i = 0; i < (wanted < 0 ? c.count : 1); i++)
        fold.to[i] = made[tap_at(p, q) * MEMBERS + (wanted < 0 ? i : wanted)] * p.plane_floats;
}

inline void plan_folds(Program &p, const int64_t *made) {
    p.fold_count = 0;
    for_each_class(p, [&](const int64_t *q, const Class &c) {
        if (!c.root || (c.count == 1 && !p.close)) return;
        if (p.task.mode < 2) return add_fold(p, q, c, -1, made);
        for (int i = 0; i < c.count; i++) add_fold(p, q, c, i, made);
    });
}

inline void plan_slots(Program &p, const int64_t *made) {
    p.slot_count = 0;
    memset(p.start, 0, sizeof p.start);
    for_each_slot(p, [&](int group, const int64_t *q, const Class &c, int i) {
        int64_t root[3];
        for (int a = 0; a < 3; a++) root[a] = p.folded[a] ? q[a] : 0;
        Slot &slot = p.slots[p.slot_count];
        slot.direct = c.count == 1 && !p.close;
        slot.row = q[1] * p.task.dilation[1] - p.task.padding[1];
        slot.offset = slot.direct ? region_offset(p, q)
                                  : made[tap_at(p, root) * MEMBERS + i] * p.plane_floats + plane_offset(p, q);
        p.recipes[tap_at(p, q)].slot[i] = p.slot_count++;
        p.start[group + 1] = p.slot_count;
    });
    for (int group = 0; group < p.groups; group++)  // filters of one tap are even: nothing is odd
        p.start[group + 1] = (int)most(p.start[group + 1], p.start[group]);
}

enum { CHUNK = 512 };  // numbers of a pixel that are multiplied in one go: their weights come from the second cache in order

// Spans of so many slots, from one on: as many as are multiplied in one go, in even pieces that no shared vector reaches beyond.
inline void add_spans(Program &p, int first, int count) {
    const Slot &slot = p.slots[first];
    int64_t inputs = p.task.inputs, floats = count * inputs, piece = up(up(floats, up(floats, CHUNK)), MEMBERS) * MEMBERS;
    for (int64_t at = 0; at < floats; at += piece)
        p.spans[p.span_count++] = {slot.direct, slot.offset + at, slot.row, first * inputs + at, least(piece, floats - at)};
}

inline void plan_spans(Program &p) {
    p.span_count = 0;
    for (int group = 0; group < p.groups; group++) {
        p.span_start[group] = p.span_count;
        for (int first = p.start[group], end = first; first < p.start[group + 1]; first = end) {
            const Slot *slot = p.slots + first;
            auto follows = [&](int64_t s) {  // not from row to row, some of which are left out
                return p.close && slot[s].row == slot->row && slot[s].offset == slot->offset + s * p.task.inputs;
            };
            while (++end < p.start[group + 1] && follows(end - first)) {}
            add_spans(p, first, end - first);
        }
    }
    p.span_start[p.groups] = p.span_count;
}

// The number of a member's tap among those that are stored, or -1.
inline int stored_tap(const Program &p, int member, const int64_t *at) {
    const Task &t = p.task;
    int64_t number = 0;
    for (int a = 0; a < 3; a++) {
        int64_t here = t.phase[member][a] + t.spacing[a] * at[a] - t.before[a];
        if (here < 0 || here >= t.stored[a]) return -1;
        number = number * t.stored[a] + here;
    }
    return (int)number;
}

// The weight of a character is the same butterfly, of the stored taps. Gradients of the input read taps backwards; in
// orbits a transposed filter's mirror is already in its exchanged channels, and its taps stay where they are.
inline void plan_recipes(Program &p) {
    for_each_class(p, [&](const int64_t *q, const Class &c) {
        Recipe &recipe = p.recipes[tap_at(p, q)];
        recipe.count = c.count;
        for (int i = 0; i < c.count; i++) {
            int64_t at[3];
            reflect(p, p.deep && p.task.transposed ? 0 : c.mirror[i], q, at);
            if (p.task.transposed)
                for (int a = 0; a < 3; a++) at[a] = p.task.kernel[a] - 1 - at[a];
            int member = p.deep ? c.mirror[i] : 0;
            recipe.member[i] = p.alike ? 0 : member;
            recipe.tap[i] = stored_tap(p, member, at);
        }
    });
}

}  // namespace
