//! Whether a neighbour on the link can be reached: the state machine of ARP and neighbour discovery (RFC 4861 section 7.3, with
//! Linux's states and times).
//!
//! Key types: [`Reachability`] (one neighbour's), [`Parameters`]. Pure: the time is an argument, what is to be done is the answer
//! ([`Step`]), and the caller arms one timer for [`Reachability::deadline_ns`].

/// How sure we are of a neighbour (`NUD_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nud {
    /// Nothing has been tried.
    #[default]
    None = 0,
    /// It is being asked for.
    Incomplete = 1,
    /// It was heard of not long ago.
    Reachable = 2,
    /// It was, but some time ago.
    Stale = 4,
    /// Something was sent to it; perhaps an answer shows that it is there.
    Delay = 8,
    /// It is being asked whether it is still there.
    Probe = 0x10,
    /// It does not answer.
    Failed = 0x20,
    /// It needs no asking.
    NoArp = 0x40,
    /// An administrator said so.
    Permanent = 0x80,
}

impl Nud {
    /// Its link-layer address can be used.
    pub fn is_valid(self) -> bool {
        !matches!(self, Nud::None | Nud::Incomplete | Nud::Failed)
    }

    /// It can be used without a second thought.
    pub fn is_connected(self) -> bool {
        matches!(self, Nud::Permanent | Nud::NoArp | Nud::Reachable)
    }

    /// Time changes it.
    fn has_timer(self) -> bool {
        matches!(self, Nud::Incomplete | Nud::Reachable | Nud::Delay | Nud::Probe)
    }

    /// The one with this number.
    pub fn from_number(number: u16) -> Option<Nud> {
        use Nud::*;
        [None, Incomplete, Reachable, Stale, Delay, Probe, Failed, NoArp, Permanent]
            .into_iter()
            .find(|state| *state as u16 == number)
    }
}

/// The times and counts of an interface (`/proc/sys/net/ipv4/neigh`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// For so long it counts as reachable.
    pub reachable_ns: u64,
    /// For so long an answer to something else is waited for.
    pub delay_ns: u64,
    /// Between two questions.
    pub retransmit_ns: u64,
    /// Questions to the neighbour itself, where it was known, before others are asked.
    pub own_probes: u32,
    /// Questions to a program that knows neighbours, after those.
    pub program_probes: u32,
    /// Questions to all, of one that was not known, before it fails.
    pub group_probes: u32,
    /// Questions to all, of one that was known, before it fails.
    pub group_reprobes: u32,
    /// What was learnt so long ago may be replaced by an answer (ARP).
    pub lock_ns: u64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// Ask everybody.
    AskGroup,
    /// Ask the neighbour itself.
    AskNeighbour,
    /// Ask the program that knows neighbours.
    AskProgram,
    /// It failed: who waits for it is to be told.
    Fail,
}

/// What somebody says of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// The state it would have.
    pub state: Nud,
    /// The address told is another than the one known.
    pub is_other_address: bool,
    /// What is told counts more than what is known.
    pub overrides: bool,
    /// Where it does not, another address makes what is known doubtful.
    pub is_doubt: bool,
    /// An administrator says so.
    pub is_order: bool,
}

/// What news did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// The new address is to be taken.
    pub takes_address: bool,
    /// Something that programs see changed.
    pub is_notable: bool,
    /// It can be used now and could not before: what waits is to be sent.
    pub becomes_valid: bool,
    /// It cannot be used any more: what waits is to be given up.
    pub fails: bool,
}

/// The state of one neighbour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reachability {
    state: Nud,
    probes: u32,
    /// When it was last shown to be there.
    pub confirmed_ns: u64,
    /// When something was last sent to it.
    pub used_ns: u64,
    /// When its state or address last changed.
    pub updated_ns: u64,
    deadline_ns: Option<u64>,
}

impl Reachability {
    /// Nothing is known.
    pub fn new(now_ns: u64) -> Reachability {
        Reachability { used_ns: now_ns, updated_ns: now_ns, confirmed_ns: now_ns, ..Reachability::default() }
    }

    /// One that needs no asking.
    pub fn without_asking(now_ns: u64) -> Reachability {
        Reachability { state: Nud::NoArp, ..Reachability::new(now_ns) }
    }

    /// How sure we are.
    pub fn state(&self) -> Nud {
        self.state
    }

    /// Questions asked, in the order of own, program's and all's; of one that was not known the first kind counts as asked.
    pub fn probes(&self) -> u32 {
        self.probes
    }

    /// When [`Reachability::expire`] wants to be called.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.deadline_ns
    }

    fn enter(&mut self, state: Nud, now_ns: u64, deadline_ns: Option<u64>) {
        (self.state, self.updated_ns, self.deadline_ns) = (state, now_ns, deadline_ns);
    }

    /// Something is to be sent to it. Where the state is not valid afterwards it has to wait.
    pub fn use_for_sending(&mut self, now_ns: u64, parameters: &Parameters) -> Step {
        self.used_ns = now_ns;
        match self.state {
            Nud::None | Nud::Failed if parameters.group_probes == 0 && parameters.program_probes == 0 => {
                self.enter(Nud::Failed, now_ns, None);
                Step::Fail
            }
            Nud::None | Nud::Failed => {
                self.probes = parameters.own_probes;
                self.enter(Nud::Incomplete, now_ns, Some(now_ns + parameters.retransmit_ns));
                self.ask(parameters)
            }
            Nud::Stale => {
                self.enter(Nud::Delay, now_ns, Some(now_ns + parameters.delay_ns));
                Step::Nothing
            }
            _ => Step::Nothing,
        }
    }

    /// Something was sent to it, whose state is connected.
    pub fn mark_used(&mut self, now_ns: u64) {
        self.used_ns = now_ns;
    }

    /// A transport heard from it: it is there.
    pub fn confirm(&mut self, now_ns: u64) {
        self.confirmed_ns = now_ns;
    }

    /// Time has passed; whether programs are to be told, and what is to be done.
    pub fn expire(&mut self, now_ns: u64, parameters: &Parameters) -> (bool, Step) {
        if self.deadline_ns.is_none_or(|deadline| deadline > now_ns) {
            return (false, Step::Nothing);
        }
        match self.state {
            Nud::Reachable if now_ns < self.confirmed_ns + parameters.reachable_ns => {
                self.deadline_ns = Some(self.confirmed_ns + parameters.reachable_ns);
                (false, Step::Nothing)
            }
            Nud::Reachable if now_ns < self.used_ns + parameters.delay_ns => {
                self.enter(Nud::Delay, now_ns, Some(now_ns + parameters.delay_ns));
                (false, Step::Nothing)
            }
            Nud::Reachable => {
                self.enter(Nud::Stale, now_ns, None);
                (true, Step::Nothing)
            }
            Nud::Delay if now_ns <= self.confirmed_ns + parameters.delay_ns => {
                self.enter(Nud::Reachable, now_ns, Some(self.confirmed_ns + parameters.reachable_ns));
                (true, Step::Nothing)
            }
            Nud::Delay => {
                self.probes = 0;
                self.enter(Nud::Probe, now_ns, Some(now_ns + parameters.retransmit_ns));
                (true, self.ask(parameters))
            }
            Nud::Incomplete => self.ask_again(now_ns, parameters, parameters.group_probes),
            Nud::Probe => self.ask_again(now_ns, parameters, parameters.group_reprobes),
            _ => {
                self.deadline_ns = None;
                (false, Step::Nothing)
            }
        }
    }

    /// The next question: whom it goes to.
    fn ask(&mut self, parameters: &Parameters) -> Step {
        let asked = self.probes;
        self.probes = asked.saturating_add(1);
        if asked < parameters.own_probes {
            Step::AskNeighbour
        } else if asked - parameters.own_probes < parameters.program_probes {
            Step::AskProgram
        } else {
            Step::AskGroup
        }
    }

    fn ask_again(&mut self, now_ns: u64, parameters: &Parameters, of_group: u32) -> (bool, Step) {
        let most = parameters.own_probes.saturating_add(parameters.program_probes).saturating_add(of_group);
        if self.probes >= most {
            self.enter(Nud::Failed, now_ns, None);
            return (true, Step::Fail);
        }
        self.deadline_ns = Some(now_ns + parameters.retransmit_ns);
        (false, self.ask(parameters))
    }

    /// Somebody says something of it (`neigh_update`). Nothing that others say changes what an administrator said.
    pub fn hear(&mut self, news: News, now_ns: u64, parameters: &Parameters) -> Effect {
        let old = self.state;
        let is_fixed = matches!(old, Nud::Permanent | Nud::NoArp);
        if is_fixed && !news.is_order {
            return Effect::default();
        }
        if !news.state.is_valid() {
            let waits = matches!(old, Nud::Incomplete | Nud::Probe);
            self.enter(news.state, now_ns, None);
            return Effect {
                is_notable: old.is_valid() || waits,
                fails: news.state == Nud::Failed,
                ..Effect::default()
            };
        }
        if news.state.is_connected() {
            self.confirmed_ns = now_ns;
        }
        let mut new = news.state;
        let mut takes_address = news.is_other_address || !old.is_valid();
        if old.is_valid() {
            if news.is_other_address && !news.overrides {
                if !(news.is_doubt && old.is_connected()) {
                    return Effect::default();
                }
                (takes_address, new) = (false, Nud::Stale);
            } else if !news.is_other_address && new == Nud::Stale && !news.is_order {
                new = old;
            }
        }
        if new != old || takes_address {
            self.updated_ns = now_ns;
        }
        if new != old {
            if new == Nud::Probe {
                self.probes = 0;
            }
            let wait = if new == Nud::Reachable { parameters.reachable_ns } else { 0 };
            self.enter(new, now_ns, new.has_timer().then_some(now_ns + wait));
        }
        if takes_address && !new.is_connected() {
            self.confirmed_ns = now_ns.saturating_sub(2 * parameters.reachable_ns);
        }
        Effect {
            takes_address,
            is_notable: new != old || takes_address,
            becomes_valid: !old.is_valid(),
            fails: false,
        }
    }

    /// Whether it may be forgotten for want of room: it is not in use, and what it says was not said just now.
    pub fn may_be_forgotten(&self, now_ns: u64, young_ns: u64) -> bool {
        match self.state {
            Nud::Permanent => false,
            Nud::Failed | Nud::None => true,
            Nud::Incomplete | Nud::Delay | Nud::Probe | Nud::Reachable | Nud::Stale | Nud::NoArp => {
                now_ns >= self.updated_ns + young_ns && now_ns >= self.used_ns + young_ns
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;
    const PARAMETERS: Parameters = Parameters {
        reachable_ns: 30 * SECOND,
        delay_ns: 5 * SECOND,
        retransmit_ns: SECOND,
        own_probes: 3,
        program_probes: 0,
        group_probes: 3,
        group_reprobes: 0,
        lock_ns: SECOND,
    };
    const ANSWER: News = News {
        state: Nud::Reachable,
        is_other_address: true,
        overrides: true,
        is_doubt: false,
        is_order: false,
    };

    #[test]
    fn nobody_answers() {
        let mut one = Reachability::new(0);
        assert_eq!(one.use_for_sending(0, &PARAMETERS), Step::AskGroup);
        assert_eq!(one.use_for_sending(1, &PARAMETERS), Step::Nothing);
        assert_eq!(one.expire(SECOND, &PARAMETERS), (false, Step::AskGroup));
        assert_eq!(one.expire(2 * SECOND, &PARAMETERS), (false, Step::AskGroup));
        assert_eq!(one.expire(3 * SECOND, &PARAMETERS), (true, Step::Fail));
        assert_eq!((one.state(), one.deadline_ns()), (Nud::Failed, None));
        assert_eq!(one.use_for_sending(4 * SECOND, &PARAMETERS), Step::AskGroup);
    }

    #[test]
    fn an_answer_lasts_then_is_doubted() {
        let mut one = Reachability::new(0);
        one.use_for_sending(0, &PARAMETERS);
        let effect = one.hear(ANSWER, SECOND, &PARAMETERS);
        assert!(effect.takes_address && effect.becomes_valid && effect.is_notable);
        assert_eq!(one.expire(31 * SECOND, &PARAMETERS), (true, Step::Nothing));
        assert_eq!(one.state(), Nud::Stale);
        assert_eq!(one.use_for_sending(40 * SECOND, &PARAMETERS), Step::Nothing);
        assert_eq!(one.state(), Nud::Delay);
        assert_eq!(one.expire(45 * SECOND, &PARAMETERS), (true, Step::AskNeighbour));
        assert_eq!(one.state(), Nud::Probe);
        one.hear(News { is_other_address: false, ..ANSWER }, 46 * SECOND, &PARAMETERS);
        assert_eq!(one.state(), Nud::Reachable);
        one.use_for_sending(75 * SECOND, &PARAMETERS);
        assert_eq!(one.expire(76 * SECOND, &PARAMETERS), (false, Step::Nothing));
        assert_eq!(one.state(), Nud::Delay);
        one.confirm(77 * SECOND);
        assert_eq!(one.expire(81 * SECOND, &PARAMETERS), (true, Step::Nothing));
        assert_eq!(one.state(), Nud::Reachable);
    }

    #[test]
    fn a_program_is_asked_before_all() {
        let parameters = Parameters { program_probes: 1, group_probes: 1, ..PARAMETERS };
        let mut one = Reachability::new(0);
        assert_eq!(one.use_for_sending(0, &parameters), Step::AskProgram);
        assert_eq!((one.probes(), one.expire(SECOND, &parameters)), (4, (false, Step::AskGroup)));
        assert_eq!(one.expire(2 * SECOND, &parameters), (true, Step::Fail));
    }

    #[test]
    fn one_that_was_known_is_asked_itself_then_by_all() {
        let parameters = Parameters { own_probes: 1, group_reprobes: 1, ..PARAMETERS };
        let mut one = Reachability::new(0);
        one.hear(News { state: Nud::Probe, ..ANSWER }, 0, &parameters);
        assert_eq!(one.expire(0, &parameters), (false, Step::AskNeighbour));
        assert_eq!(one.expire(SECOND, &parameters), (false, Step::AskGroup));
        assert_eq!(one.expire(2 * SECOND, &parameters), (true, Step::Fail));
    }

    #[test]
    fn administrators_have_the_last_word() {
        let mut one = Reachability::new(0);
        let order = News { state: Nud::Permanent, is_order: true, ..ANSWER };
        one.hear(order, 0, &PARAMETERS);
        assert_eq!(one.hear(ANSWER, 1, &PARAMETERS), Effect::default());
        assert_eq!(one.state(), Nud::Permanent);
        assert!(!one.may_be_forgotten(u64::MAX, 0));
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Send,
        Confirm,
        Wait(u64),
        Hear(News),
    }

    fn events() -> impl Strategy<Value = Event> {
        const STATES: &[Nud] = &[Nud::Reachable, Nud::Stale, Nud::Failed, Nud::Probe, Nud::Delay];
        prop_oneof![
            Just(Event::Send),
            Just(Event::Confirm),
            (0u64..40_000).prop_map(|milliseconds| Event::Wait(milliseconds * 1_000_000)),
            (proptest::sample::select(STATES), any::<[bool; 3]>()).prop_map(|(state, [a, b, c])| {
                Event::Hear(News { state, is_other_address: a, overrides: b, is_doubt: c, is_order: false })
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever happens: a state that time changes has a deadline, others have none; each question is bounded in number; the
        /// timer always gets somewhere.
        #[test]
        fn invariants(events in proptest::collection::vec(events(), 1..60)) {
            let mut one = Reachability::new(0);
            let mut now = 0;
            for event in events {
                match event {
                    Event::Send => {
                        one.use_for_sending(now, &PARAMETERS);
                        prop_assert!(!matches!(one.state(), Nud::None | Nud::Failed | Nud::Stale));
                    }
                    Event::Confirm => one.confirm(now),
                    Event::Hear(news) => {
                        let before = one.state();
                        let effect = one.hear(news, now, &PARAMETERS);
                        prop_assert_eq!(effect.becomes_valid, !before.is_valid() && one.state().is_valid());
                    }
                    Event::Wait(time) => {
                        now += time;
                        let mut steps = 0;
                        while one.deadline_ns().is_some_and(|deadline| deadline <= now) {
                            one.expire(now, &PARAMETERS);
                            steps += 1;
                            prop_assert!(steps < 5, "the timer does not move on");
                        }
                    }
                }
                prop_assert_eq!(one.deadline_ns().is_some(), one.state().has_timer());
                prop_assert!(one.probes() <= PARAMETERS.own_probes + PARAMETERS.group_probes);
            }
        }
    }
}
